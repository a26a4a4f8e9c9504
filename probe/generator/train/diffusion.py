"""Stage 3: the denoiser, on cached latents; captions are drawn anew each time."""

import random
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from probe.generator.parts import LATENT_SIDE, PICTURE_SIDE, TEXT_LENGTH
from probe.generator.train.contrast import pictures, tokens
from probe.generator.train.loop import Losses
from probe.generator.train.precision import autocast
from probe.generator.world import Scene, Thing, World

EMPTY = 0.1  # share of empty captions, for classifier-free guidance
GAMMA = 5.0  # the SNR + 1 weighting of Salimans and Ho (2022), capped as Hang et al. (2023) cap the SNR
ENCODE_BATCH = 32
CELL = PICTURE_SIDE // LATENT_SIDE  # pixels to a cell of the latents
CLOSE = 16  # cells to a side of a close-up
SHARE = 4  # every fourth sample is a whole scene, the rest are close-ups
JITTER = 2  # cells
EVEN, NOISY = 1.0, 0.5  # how times are drawn: evenly, or in proportion to themselves

Batch = tuple[Tensor, Tensor]


@torch.no_grad()
def latents(vae: AutoencoderKL, world: World, count: int, device: str = "cpu") -> Tensor:
    """[count, 4, 32, 32] float16 means of the posterior, not yet scaled."""
    rows = []
    for start in range(0, count, ENCODE_BATCH):
        with autocast(device):
            x = pictures(world, start, min(ENCODE_BATCH, count - start)).to(device)
            rows.append(vae.encode(x).latent_dist.mean.half().cpu())
    return torch.cat(rows)


class Reader(nn.Module):
    """The denoiser and the text tower that it reads, trained as one, as in Rombach et al. (2022).

    What tells two captions of a batch apart is learnt by contrast, and that is the colours; what a thing is called
    matters when it has to be drawn.
    """

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel):
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, z: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return self.unet(z, t, self.text(ids).last_hidden_state).sample


@dataclass
class Batches:
    """Latents and token ids, drawn by sample number: whole scenes, and close-ups of the things in them.

    A close-up costs a quarter of a scene and shows three times as much of its thing, so shapes are learnt from it.
    """

    world: World
    cached: Tensor  # [n, 4, 32, 32], scaled
    tokenizer: CLIPTokenizer
    device: str = "cpu"
    share: int = SHARE

    def draw(self, start: int, count: int) -> dict[str, Batch]:
        """`count` samples, one in `share` of them ([b, 4, 32, 32] latents, [b, 77] token ids), the rest 16 x 16."""
        rng = random.Random(start)
        whole = max(1, count // self.share)
        drawn = {"whole": self._whole(rng, whole, start)}
        return drawn if self.share == 1 else drawn | {"close": self._close(rng, max(1, count - whole), start)}

    def _whole(self, rng: random.Random, count: int, draw: int) -> Batch:
        chosen = rng.choices(range(len(self.cached)), k=count)
        scenes = [self.world.scene(i) for i in chosen]
        return self._batch(rng, self.cached[chosen].float(), [self.world.caption(scene, draw).text for scene in scenes])

    def _close(self, rng: random.Random, count: int, draw: int) -> Batch:
        shots = [(scene, i, *corner(scene.things[i], rng)) for scene, i in rng.choices(self._small, k=count)]
        z = torch.stack([self.cached[scene.seed, :, y : y + CLOSE, x : x + CLOSE].float() for scene, _, y, x in shots])
        return self._batch(rng, z, [self.world.caption_of(scene, i, draw).text for scene, i, _, _ in shots])

    @cached_property
    def _small(self) -> list[tuple[Scene, int]]:
        """Every thing that a close-up can hold; what is worn comes with its wearer."""
        scenes = self.world.scenes(len(self.cached))
        return [(scene, i) for scene in scenes for i, thing in enumerate(scene.things) if fits(thing)]

    def _batch(self, rng: random.Random, z: Tensor, texts: list[str]) -> Batch:
        texts = ["" if rng.random() < EMPTY else text for text in texts]
        return z.to(self.device), tokens(self.tokenizer, texts, TEXT_LENGTH).to(self.device)


def fits(thing: Thing) -> bool:
    """Whether a close-up can show the whole thing."""
    return thing.wearer is None and thing.side <= CLOSE * CELL


def corner(thing: Thing, rng: random.Random) -> tuple[int, int]:
    """Row and column, in cells, of a close-up's upper left: around the thing, jittered, inside the picture."""
    last = LATENT_SIDE - CLOSE
    y, x = (
        (start + thing.side // 2) // CELL - CLOSE // 2 + rng.randint(-JITTER, JITTER) for start in (thing.y, thing.x)
    )
    return min(max(0, y), last), min(max(0, x), last)


def losses(module: nn.Module, batches: dict[str, Batch], schedule: DDIMScheduler, lean: float = EVEN) -> Losses:
    """`loss` of each batch, by name."""
    return {name: loss(module, z, ids, schedule, lean) for name, (z, ids) in batches.items()}


def loss(module: nn.Module, z: Tensor, ids: Tensor, schedule: DDIMScheduler, lean: float = EVEN) -> Tensor:
    """Mean squared error on v, whose weight on the clean latents, snr + 1, is capped: min(snr + 1, gamma) / (snr + 1).

    So noisy times count, where it is decided what is drawn and the text has its say. Times are 1000 u ^ lean, u even
    between 0 and 1.
    """
    t = (1000 * torch.rand(len(z), device=z.device) ** lean).long().clamp(max=999)  # a root may be rounded to 1
    noise = torch.randn_like(z)
    abar = schedule.alphas_cumprod.to(z.device)[t][:, None, None, None]
    snr = abar / (1 - abar)
    noisy, v = abar.sqrt() * z + (1 - abar).sqrt() * noise, abar.sqrt() * noise - (1 - abar).sqrt() * z
    predicted = module(noisy, t, ids).float()
    error = F.mse_loss(predicted, v, reduction="none").mean((1, 2, 3))
    return (error * ((snr + 1).clamp(max=GAMMA) / (snr + 1)).flatten()).mean()
