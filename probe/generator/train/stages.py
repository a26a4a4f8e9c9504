"""The stages of Menagerie's training, in order: autoencoder, clip, denoiser, pairs, large, control, judge."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from probe.generator import parts, weights
from probe.generator.tokenizer import build
from probe.generator.train import autoencoder, contrast, diffusion, judging
from probe.generator.train.diffusion import Reader
from probe.generator.train.loop import Recipe, Trainer, filled, finished
from probe.generator.weights import MENAGERIE, UNET, VAE, clip, text_tower
from probe.generator.world import CONTROL, Dials, World

SEED = 0
LARGER = 4  # times the batch, on a GPU
JUDGE = "judge/model.safetensors"
# How many scenes' latents a stage is trained on.
LATENTS = {"denoiser": 20_000, "pairs": 12_000, "large": 12_000, "control": 16_000}
# Then the denoiser learns about pairs; shapes it has learnt before. Its captions stay as noisy as they were.
LED = dataclasses.replace(Dials(), counts=(0.3, 0.6, 0.1), ordered=0.9)
# Its last samples are whole scenes, most of one thing: it is drawn larger than a close-up can show.
LARGE = dataclasses.replace(LED, counts=(0.6, 0.36, 0.04), people=0.3, worn=0.3)
# The control is about pairs; shapes it has learnt before, and which of two things goes where the words tell it.
PAIRED = dataclasses.replace(CONTROL, counts=(0.2, 0.7, 0.1), ordered=0.9)
SHARES = {"denoiser": diffusion.SHARE, "pairs": 2, "large": 1, "control": 2}  # one sample in so many is a whole scene
LATER = ("large", "pairs", "denoiser")  # the stages that leave a denoiser, the later first
BEGINS = {"large": LATER[1:], "pairs": LATER[2:], "control": LATER}  # as what one of these stages has left
LEANS = {"denoiser": diffusion.EVEN, "pairs": diffusion.NOISY, "large": diffusion.EVEN, "control": diffusion.NOISY}

RECIPES = {
    "autoencoder": Recipe(samples=22_000, batch=16, lr=2e-3, warmup=30, decay=0.4, ema=0.99),
    "clip": Recipe(samples=100_000, batch=96, lr=2e-3, warmup=30, decay=0.5, ema=0.98),
    "denoiser": Recipe(samples=400_000, batch=64, lr=2e-3, warmup=60, decay=0.15, ema=0.998),
    "pairs": Recipe(samples=70_000, batch=64, lr=1.5e-3, warmup=60, decay=0.6, ema=0.998),
    "large": Recipe(samples=52_000, batch=64, lr=1.5e-3, warmup=60, decay=0.6, ema=0.998),
    "control": Recipe(samples=150_000, batch=64, lr=1.5e-3, warmup=60, decay=0.6, ema=0.998),
    "judge": judging.RECIPE,
}


@dataclass(frozen=True)
class Plan:
    """Where and on what to train, and how much."""

    folder: Path
    device: str = "cpu"
    resume: bool = False
    smoke: bool = False  # a minute in all: it proves that every stage runs, saves and resumes
    samples: int | None = None
    batch: int | None = None

    def recipe(self, stage: str) -> Recipe:
        """The stage's recipe, shortened or scaled as asked; the rate grows with the root of the batch."""
        recipe = RECIPES[stage]
        if self.smoke:
            return dataclasses.replace(recipe, samples=8, batch=4, warmup=1)
        batch = self.batch or recipe.batch * (LARGER if self.device.startswith("cuda") else 1)
        recipe = dataclasses.replace(recipe, batch=batch, lr=recipe.lr * (batch / recipe.batch) ** 0.5)
        return recipe if self.samples is None else dataclasses.replace(recipe, samples=self.samples)

    def trainer(self, stage: str, module: torch.nn.Module) -> Trainer:
        """A trainer for the stage; with `resume` it goes on from its checkpoint, or without one from what is packed."""
        torch.manual_seed(SEED)
        trainer = Trainer(module, self.recipe(stage), self.folder / stage, self.device)
        begun = any(map(self.has, BEGINS.get(stage, ())))  # the module is what an earlier stage has left here
        held = packed(stage) if self.resume and not trainer.resume() and not begun else None
        if held is not None:
            trainer.start_from(held)
        return trainer

    def has(self, stage: str) -> bool:
        """Whether the folder holds this stage's checkpoint; without one the package's weights stand in."""
        return (self.folder / stage / "average.safetensors").exists()


def packed(stage: str) -> dict[str, torch.Tensor] | None:
    """A stage's weights as they are in the package; None where it has none, or none of its own yet."""
    if stage == "clip":
        return contrast.Pupil(clip().requires_grad_(True)).state_dict()
    if stage == "control" and (MENAGERIE / weights.CONTROL).exists():
        reader = packed_reader()
        reader.unet.load_state_dict(weights.control_weights())
        return reader.state_dict()
    if stage == "denoiser":
        return packed_reader().state_dict()
    return load_file(MENAGERIE / JUDGE) if stage == "judge" and (MENAGERIE / JUDGE).is_file() else None


def packed_reader() -> Reader:
    """The denoiser and its text tower as they are in the package."""
    return Reader(filled(parts.denoiser(), MENAGERIE / UNET), text_tower())


def train_autoencoder(plan: Plan) -> None:
    """Stage 1."""
    world, trainer = World(SEED), plan.trainer("autoencoder", parts.autoencoder())
    trainer.fit(lambda m, i: autoencoder.losses(m, autoencoder.crops(world, i, trainer.recipe.batch).to(plan.device)))


def train_clip(plan: Plan) -> None:
    """Stage 2: both encoders. The denoiser's own text tower begins as this one, and then goes its own way."""
    world, tokenizer = World(SEED), build()
    trainer = plan.trainer("clip", contrast.Pupil(parts.clip(tokenizer)))
    trainer.fit(
        lambda m, i: contrast.losses(m, contrast.draw(world, tokenizer, i, trainer.recipe.batch).to(plan.device))
    )


def train_denoiser(plan: Plan, stage: str = "denoiser", dials: Dials | None = None) -> None:
    """Stage 3; all but the first go on from what it left, under other dials and with the same text tower."""
    world = World(SEED, dials)
    batches = diffusion.Batches(world, _latents(plan, stage, world), build(), plan.device, SHARES[stage])
    reader = trained_reader(plan, *BEGINS[stage]) if stage in BEGINS else untrained_reader(plan)
    reader.unet.requires_grad_(True)
    reader.text.requires_grad_(stage == "denoiser")
    if plan.device == "cpu":  # 1.2 times as many samples a second as the fused attention, whose backward is slow there
        reader.unet.set_attn_processor(AttnProcessor())
        reader.text.set_attn_implementation("eager")
    trainer = plan.trainer(stage, reader)
    schedule = parts.scheduler()
    trainer.fit(lambda m, i: diffusion.losses(m, batches.draw(i, trainer.recipe.batch), schedule, LEANS[stage]))


def train_judge(plan: Plan) -> None:
    """Stage 4."""
    world, vae = World(SEED + 1, judging.DIALS), trained_autoencoder(plan).to(plan.device)
    trainer = plan.trainer("judge", judging.network())
    trainer.fit(lambda m, i: judging.losses(m, i, trainer.recipe.batch, world, vae))


STAGES: dict[str, Callable[[Plan], None]] = {
    "autoencoder": train_autoencoder,
    "clip": train_clip,
    "denoiser": train_denoiser,
    "pairs": partial(train_denoiser, stage="pairs", dials=LED),
    "large": partial(train_denoiser, stage="large", dials=LARGE),
    "control": partial(train_denoiser, stage="control", dials=PAIRED),
    "judge": train_judge,
}


def trained_autoencoder(plan: Plan) -> AutoencoderKL:
    """The finished autoencoder, its latents brought to mean 0 and deviation 1 per channel."""
    if not plan.has("autoencoder"):
        return filled(parts.autoencoder(), MENAGERIE / VAE)
    vae = finished(parts.autoencoder(), plan.folder / "autoencoder")
    x = contrast.pictures(World(SEED), 0, 8 if plan.smoke else 128)
    return standardised(vae, x)


def trained_clip(plan: Plan) -> CLIPModel:
    """The finished encoders; without a checkpoint, the packed ones."""
    if not plan.has("clip"):
        return clip()
    return finished(contrast.Pupil(parts.clip(build())), plan.folder / "clip").clip


def trained_reader(plan: Plan, *stages: str) -> Reader:
    """The denoiser of the first of these stages that has a checkpoint, and its text tower; else what is packed."""
    held = next((stage for stage in stages if plan.has(stage)), None)
    if held is None:
        return packed_reader()
    return finished(Reader(parts.denoiser(), parts.text_encoder(parts.clip(build()))), plan.folder / held)


def untrained_reader(plan: Plan) -> Reader:
    """A denoiser that has seen nothing, and the text tower as contrast has made it."""
    return Reader(parts.denoiser(), parts.text_encoder(trained_clip(plan)))


@torch.no_grad()
def standardised(vae: AutoencoderKL, x: torch.Tensor) -> AutoencoderKL:
    """Fold (z - mean) / deviation per channel into the 1 x 1 convolutions around the latents: nothing else changes.

    A pipeline knows one scaling factor only; this way it is 1 and every channel has the noise's own scale.
    """
    z = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(16)])
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    c = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:c] /= deviation[:, None, None, None]
    into.bias[:c] = (into.bias[:c] - mean) / deviation
    into.bias[c:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]
    return vae


def _latents(plan: Plan, stage: str, world: World) -> torch.Tensor:
    """Latents of the training scenes, made once and kept beside the checkpoints."""
    path = plan.folder / f"latents-{stage}.safetensors"
    if path.exists():
        return load_file(path)["latents"]
    vae = trained_autoencoder(plan).to(plan.device)
    latents = diffusion.latents(vae, world, 8 if plan.smoke else LATENTS[stage], plan.device)
    save_file({"latents": latents.contiguous()}, path)
    return latents
