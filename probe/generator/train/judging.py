"""Stage 4: the judge, on rendered scenes and on what the autoencoder makes of them, so that it can read generated pictures."""

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from probe.generator.judge import COLOURS, Network
from probe.generator.train.autoencoder import to_signed
from probe.generator.train.loop import Losses, Recipe
from probe.generator.world import Dials, Scene, World
from probe.generator.world import vocabulary as v

RECIPE = Recipe(samples=160_000, batch=32, lr=2e-3, ema=0.998)
# Every pair, every gender and many small things: the judge must not share the generator's habits.
DIALS = Dials(
    rare=1.0,
    hold_out=False,
    counts=(0.3, 0.45, 0.25),
    worn=0.35,
    painted=0.25,
    people=0.25,
    man_share=dict.fromkeys(v.PROFESSIONS, 0.5),
)
RECONSTRUCTED = 0.25  # share of a batch that goes through the autoencoder
ROUGH = 0.15  # standard deviation of the noise on its latents, in units of theirs: generated latents are not exact
NONE = -100  # a label that the losses skip
EVEN = 500  # pixels of a thing of weight one; smaller things weigh more


@dataclass(frozen=True)
class Batch:
    """Pictures and what they show, pixel by pixel."""

    x: Tensor  # [b, 3, y, x] in [-1, 1]
    labels: dict[str, Tensor]  # kind, colour, gender, tone: [b, y, x] class numbers; place: [b]
    weight: Tensor  # [b, y, x]


def network() -> nn.Module:
    """The module to train."""
    return Network()


def losses(module: nn.Module, start: int, count: int, world: World, vae: AutoencoderKL | None = None) -> Losses:
    """Cross-entropies of kinds, traits and places for scenes `start` to `start + count`."""
    device = str(next(module.parameters()).device)
    return read_losses(module, draw(world, start, count), vae, device)


def read_losses(module: nn.Module, batch: Batch, vae: AutoencoderKL | None = None, device: str = "cpu") -> Losses:
    """Each step judges one pixel in four (one corner of every 2 x 2), which costs a quarter and leaves out nothing for long."""
    x = augment(batch.x.to(device), vae)
    logits = module(x)
    row, column = random.randrange(2), random.randrange(2)
    weight = batch.weight[:, row::2, column::2].to(device)
    labels = {name: value.to(device) for name, value in batch.labels.items()}
    logits["kind"] = logits["kind"][:, :, row::2, column::2]
    pixels = {
        name: _pixel_loss(logits[name], labels[name][:, row::2, column::2], weight)
        for name in ("kind", "colour", "gender", "tone")
    }
    traits = (pixels["colour"] + pixels["gender"] + pixels["tone"]) / 3
    return {
        "kind": pixels["kind"],
        "traits": traits,
        "place": F.cross_entropy(logits["place"].float(), labels["place"]) / 5,
    }


def _pixel_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    each = F.cross_entropy(logits.float(), labels, ignore_index=NONE, reduction="none")
    counted = weight * (labels != NONE)
    return (each * counted).sum() / counted.sum().clamp(min=1.0)


def draw(world: World, start: int, count: int) -> Batch:
    """Scenes `start` to `start + count` with their labels."""
    scenes = list(world.scenes(count, start))
    rows = [_labels(scene) for scene in scenes]
    labels = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
    weight = torch.from_numpy(np.stack([_weight(scene) for scene in scenes]))
    return Batch(to_signed(np.stack([np.asarray(scene.picture) for scene in scenes])), labels, weight)


def _labels(scene: Scene) -> dict[str, np.ndarray]:
    """Class numbers per pixel; traits only where a thing has them."""
    things = scene.things
    tables = {
        "kind": [0, *(1 + v.KINDS.index(t.kind) for t in things)],
        "colour": [NONE, *(NONE if t.gender else COLOURS.index(t.colour or "natural") for t in things)],
        "gender": [NONE, *(v.GENDERS.index(t.gender) if t.gender else NONE for t in things)],
        "tone": [NONE, *(v.TONES.index(t.tone) if t.tone else NONE for t in things)],
    }
    rows = {name: np.array(table)[scene.labels] for name, table in tables.items()}
    return rows | {"place": np.array(v.PLACES.index(scene.place))}


def _weight(scene: Scene) -> np.ndarray:
    """[y, x]: pixels of small things weigh more, by the root of their size."""
    area = np.bincount(scene.labels.ravel(), minlength=1 + len(scene.things))
    table = np.sqrt(EVEN / np.maximum(area, 1)).clip(0.7, 4.0)
    return table[scene.labels].astype(np.float32)


def augment(x: Tensor, vae: AutoencoderKL | None) -> Tensor:
    """Pictures as a generator might have made them: through the autoencoder, or blurred, noisy, lighter or darker."""
    few = round(RECONSTRUCTED * len(x)) if vae is not None else 0
    parts = [_disturbed(x[few:])]
    if vae is not None and few:
        parts.insert(0, reconstructed(x[:few], vae, ROUGH * random.random()))
    return torch.cat(parts).clamp(-1, 1)


@torch.no_grad()
def reconstructed(x: Tensor, vae: AutoencoderKL, rough: float = 0.0) -> Tensor:
    """[b, 3, y, x] through the autoencoder, with noise of `rough` standard deviations on the latents."""
    z = vae.encode(x).latent_dist.mean
    z = z + rough * z.std() * torch.randn_like(z)
    return vae.decode(z).sample.float()


def _disturbed(x: Tensor) -> Tensor:
    """Half blurred, half not; all a little noisy and a little off in brightness and contrast, each its own way."""
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = (torch.rand(len(x), 1, 1, 1, device=x.device) - 0.5).clamp(min=0) * 2
    x = x + amount * (soft - x)
    noise = 0.08 * torch.rand(len(x), 1, 1, 1, device=x.device)
    contrast = 1 + 0.1 * torch.randn(len(x), 1, 1, 1, device=x.device)
    shift = 0.04 * torch.randn(len(x), 3, 1, 1, device=x.device)
    return x * contrast + shift + noise * torch.randn_like(x)
