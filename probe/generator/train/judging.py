"""Stage 4: the judge, on rendered scenes and on what the autoencoder makes of them, so that it reads generated ones."""

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from probe.generator.judge import COLOURS, Instance, Judge, Network, Verdict
from probe.generator.train.autoencoder import to_signed
from probe.generator.train.loop import Losses, Recipe
from probe.generator.world import Dials, Scene, Thing, World
from probe.generator.world import vocabulary as v

RECIPE = Recipe(samples=160_000, batch=32, lr=2e-3, warmup=50, ema=0.998)
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
MATCH = 0.5  # overlap (intersection over union) from which a seen thing is the true one of its kind
SCORE_BATCH = 16
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
    """Each step judges one pixel in four (one corner of every 2 x 2), at a quarter of the price."""
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


def score(judge: Judge, world: World, start: int, count: int, vae: AutoencoderKL | None = None) -> dict[str, float]:
    """How right the judge is on scenes `start` to `start + count`; with `vae`, on its reconstructions of them.

    Every thing counts: the smallest in the world shows 100 pixels, and none hides more than a quarter of itself.
    A true thing is found when something of its kind overlaps it by MATCH; a seen thing is right when it is so found.
    `recall`, `precision`, `overlap` (a thing that was not found counts 0), and the shares of right colours, genders,
    tones (of the things found) and places; NaN where nothing was there to be right about.
    """
    tally = Tally()
    for first in range(start, start + count, SCORE_BATCH):
        scenes = list(world.scenes(min(SCORE_BATCH, start + count - first), first))
        pictures = [scene.picture for scene in scenes]
        for scene, verdict in zip(
            scenes, judge.read_all(pictures if vae is None else through(pictures, vae)), strict=True
        ):
            tally.add(scene, verdict)
    return tally.shares()


@torch.no_grad()
def through(pictures: list[Image.Image], vae: AutoencoderKL) -> list[Image.Image]:
    """The autoencoder's reconstructions."""
    x = to_signed(np.stack([np.asarray(picture) for picture in pictures])).to(vae.device, vae.dtype)
    y = reconstructed(x, vae).clamp(-1, 1).add(1).mul(127.5).round().byte()
    return [Image.fromarray(row) for row in y.permute(0, 2, 3, 1).cpu().numpy()]


class Tally:
    """Counts of right answers."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}

    def add(self, scene: Scene, verdict: Verdict) -> None:
        """Count one picture."""
        free = list(verdict.instances)
        for i, thing in enumerate(scene.things):
            overlap, best = _closest(scene.mask(i), [seen for seen in free if seen.kind == thing.kind])
            self._note("overlap", overlap)
            self._note("recall", best is not None)
            if best is not None:
                free.remove(best)
                self._traits(thing, best)
        for seen in verdict.instances:
            self._note("precision", seen not in free)
        self._note("place", verdict.place == scene.place)

    def _traits(self, thing: Thing, seen: Instance) -> None:
        if thing.gender:
            self._note("gender", seen.gender == thing.gender)
            self._note("tone", seen.tone == thing.tone)
        else:
            self._note("colour", seen.colour == thing.colour)

    def _note(self, name: str, value: float) -> None:
        self.rows.setdefault(name, []).append(float(value))

    def shares(self) -> dict[str, float]:
        """The mean of every row."""
        names = ("recall", "precision", "overlap", "colour", "gender", "tone", "place")
        return {name: float(np.mean(self.rows[name])) if name in self.rows else float("nan") for name in names}


def _closest(mask: np.ndarray, seen: list[Instance]) -> tuple[float, Instance | None]:
    """The largest overlap and whose it is; (0, None) when it is below MATCH."""
    pairs = [((mask & one.mask).sum() / (mask | one.mask).sum(), one) for one in seen]
    overlap, best = max(pairs, key=lambda pair: pair[0], default=(0.0, None))
    return (float(overlap), best) if overlap >= MATCH else (0.0, None)
