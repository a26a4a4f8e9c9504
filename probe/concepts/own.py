"""The model's own pictures of a prompt: their latents, and the noise levels at which the model works on them.

The pipeline's own loop draws them. Its last latents are kept as they are, so nothing is decoded and encoded again, and
a batch for the reconstruction loss is x_t = alpha x_0 + sigma eps, which every denoiser of diffusers reads (a scheduler
that keeps another scale divides by it first). Flips, which the published method adds, are left out: a flipped picture
is not its flipped latents.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor

from probe.attach.borrow import by_name, here
from probe.attach.given import SAMPLES
from probe.attach.model.families import denoiser, family
from probe.attach.model.prediction import Level, level
from probe.concepts.recipe import Recipe
from probe.errors import UnknownFamily

TIMES = ("timestep", "t")
Tick = Callable[[int, int, float], None]  # done, of how many, the loss so far


@dataclass(frozen=True)
class Own:
    """`latents` [picture, ...]; for each of the scheduler's steps a noise level and what the denoiser is told of it."""

    latents: Tensor
    levels: tuple[Level, ...]
    told: tuple[float, ...]
    sign: int = 1  # -1 where the pipeline turns the output round


@dataclass(frozen=True)
class Draw:
    """A batch for the loss: noised latents, what the denoiser is told of their noise, and what it should answer."""

    x: Tensor
    told: Tensor
    target: Tensor


def draw(own: Own, key: Sequence[int], size: int, *, noisiest: float = 1.0) -> Draw:
    """Pictures, noise levels and noise by chance, the same for the same key; on the CPU, so on every machine.

    `noisiest`: only this share of the levels, from the noisiest down.
    """
    rng = seeded(*key)
    count = max(1, round(noisiest * len(own.levels)))
    hardest = sorted(range(len(own.levels)), key=lambda i: -own.levels[i].sigma / max(own.levels[i].alpha, 1e-8))
    which = torch.randint(len(own.latents), (size,), generator=rng)
    steps = [hardest[i] for i in torch.randint(count, (size,), generator=rng).tolist()]
    x0 = own.latents[which.to(own.latents.device)].float()
    noise = torch.randn(x0.shape, generator=rng).to(x0)
    shape = (size, *(1,) * (x0.ndim - 1))
    alpha = torch.tensor([own.levels[i].alpha for i in steps]).reshape(shape).to(x0)
    sigma = torch.tensor([own.levels[i].sigma for i in steps]).reshape(shape).to(x0)
    told = torch.tensor([own.told[i] for i in steps])
    return Draw(alpha * x0 + sigma * noise, told, own.sign * target(own.levels[0].kind, x0, noise, alpha, sigma))


def target(kind: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a model of this kind predicts: eps, x_0, v = alpha eps - sigma x_0, or a flow's velocity eps - x_0."""
    if kind == "sample":
        return x0
    if kind == "v_prediction":
        return alpha * noise - sigma * x0
    return noise - x0 if kind == "flow" else noise


def seeded(*key: int) -> Generator:
    """A generator for a key of numbers; near keys give unrelated numbers."""
    mixed = 0
    for number in key:
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    return Generator("cpu").manual_seed(mixed)


def paint(pipe: Any, prompt: str, seeds: Sequence[int], recipe: Recipe, **more: Any) -> list[Image.Image]:
    """A picture for each seed, by the pipeline's own call."""
    pictures: list[Image.Image] = []
    with quiet(pipe):
        for i in range(0, len(seeds), recipe.batch):
            noise = [Generator("cpu").manual_seed(seed) for seed in seeds[i : i + recipe.batch]]
            pictures += pipe([prompt] * len(noise), generator=noise, **options(recipe), **more).images
    return pictures


def options(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of the pipeline's call."""
    given = {"num_inference_steps": recipe.inference_steps, "guidance_scale": recipe.guidance}
    return {name: value for name, value in given.items() if value is not None} | size(recipe)


def size(recipe: Recipe) -> dict[str, int]:
    """What a recipe says of the size of pictures, in pixels."""
    asked = {"height": recipe.height, "width": recipe.width}
    return {name: value for name, value in asked.items() if value is not None}


@contextmanager
def quiet(pipe: Any) -> Iterator[None]:
    """The pipeline's own progress bar is off in the block."""
    before = vars(pipe).get("_progress_bar_config")
    pipe.set_progress_bar_config(**{**(before or {}), "disable": True})
    try:
        yield
    finally:
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe._progress_bar_config = before


class _Watch:
    """Notes, of the pipeline's first pictures, each step's noise level and what the denoiser was told of it."""

    def __init__(self, pipe: Any):
        self.pipe, self.step, self.latents = pipe, 0, []
        self.levels: list[Level] = []
        self.told: list[float] = []

    def before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.step == len(self.levels):
            given = by_name(module.forward, args, kwargs)
            time = first(given, TIMES)
            self.told.append(float(torch.as_tensor(time).flatten()[0]))
            self.levels.append(level(self.pipe.scheduler, self.pipe.scheduler.timesteps[self.step]))

    def after(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.step, self.last = step + 1, tensors["latents"]
        return tensors


def own_pictures(pipe: Any, prompt: str, recipe: Recipe, tick: Tick | None = None) -> tuple[Own, list[Image.Image]]:
    """The model's pictures of a prompt at the seeds `recipe.seed`, + 1, ..., and what the loss needs of them."""
    _, module = denoiser(pipe)
    watch, latents, pictures = _Watch(pipe), [], []
    handle = module.register_forward_pre_hook(here(watch.before), with_kwargs=True)
    try:
        for i in range(0, recipe.pictures, recipe.batch):
            seeds = range(recipe.seed + i, recipe.seed + min(i + recipe.batch, recipe.pictures))
            watch.step = 0
            pictures += paint(pipe, prompt, seeds, recipe, callback_on_step_end=watch.after)
            latents.append(watch.last.detach())
            if tick:
                tick(len(pictures), recipe.pictures, float("nan"))
    finally:
        handle.remove()
    own = Own(torch.cat(latents).float(), tuple(watch.levels), tuple(watch.told), family(pipe).sign)
    return own, pictures


def first(given: dict[str, Any], names: Sequence[str]) -> Any:
    """The first argument of these names that was given. Raises UnknownFamily if there is none."""
    found = [given[name] for name in names if given.get(name) is not None]
    if not found or (names is SAMPLES and not isinstance(found[0], Tensor)):
        raise UnknownFamily(
            f"the denoiser was called with {', '.join(sorted(given))}; expected a tensor named one of "
            f"{', '.join(names)}. Concepts can be learned from denoisers that are called so"
        )
    return found[0]
