"""Guidance as an object: diffusers' guiders, and the blocks of the modular pipelines that call them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from probe.attach.borrow import by_name
from probe.attach.model.prediction import Level

Form = Literal["same", "negative", "clean"]  # what guiders combine: what the scheduler is given, or clean latents
NEAR = 0.02  # of a norm: half precision may lie between a guider's result and what the scheduler is given
PREFIX = "pred_"  # diffusers names a guider's inputs pred_cond, pred_uncond, pred_cond_skip, ...
SCALES = ("guidance", "timestep_cond")  # arguments that tell a denoiser the scale instead of a second branch


def parts_of(pipe: Any) -> list[Any]:
    """The objects whose methods do a pipeline's work: itself, or the blocks of a modular one, leaves too."""
    return [pipe, *_blocks(getattr(pipe, "_blocks", None))]


def _blocks(block: Any) -> Iterator[Any]:
    if block is None:
        return
    yield block
    for part in (getattr(block, "sub_blocks", None) or {}).values():
        yield from _blocks(part)


def predictions(forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a guider combines, by branch: "cond", "uncond", "cond_skip", "cond_perturb", ..."""
    given = by_name(forward, args, kwargs)
    return {name.removeprefix(PREFIX): value for name, value in given.items() if isinstance(value, Tensor)}


def guiders_of(pipe: Any) -> list[Any]:
    """The guiders of a picture or film: some models have another for texts with letters, or for the last steps."""
    further = (name for name in getattr(pipe, "components", {}) if "guider" in name and not name.startswith("audio"))
    names = dict.fromkeys(("guider", *further))
    return [guider for name in names if (guider := getattr(pipe, name, None)) is not None]


def scale_of(pipe: Any) -> float | None:
    """The scale of the guidance, as the pipeline or else its guiders have it; None where they differ."""
    own = getattr(pipe, "guidance_scale", None)
    at_work = [guider for guider in guiders_of(pipe) if getattr(guider, "_enabled", True)]
    scales: set[Any] = {getattr(guider, "guidance_scale", None) for guider in at_work} if own is None else {own}
    return float(*scales) if len(scales) == 1 and None not in scales else None


@dataclass(frozen=True)
class Combined:
    """What a guider combined in one step, and to what, as planes; `guider` is its class."""

    guider: str
    branches: Mapping[str, Tensor]
    result: Tensor

    def at(self, part: Callable[[Tensor], Tensor]) -> "Combined":
        """The same of a part of every prediction."""
        branches = {name: part(value) for name, value in self.branches.items()}
        return Combined(self.guider, branches, part(self.result))

    def form(self, given: Tensor, noise: Level, sample: Tensor) -> Form | None:
        """What its predictions are, where the scheduler is `given` this: None, if it is made of them in another way."""
        own = self.result.float()
        return next((form for form, turn in FORMS.items() if _near(turn(own, noise, sample), given.float())), None)


def _near(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and bool(torch.dist(x, y) <= NEAR * y.norm())


FORMS: dict[Form, Callable[[Tensor, Level, Tensor], Tensor]] = {
    "same": lambda x, noise, sample: x,
    "negative": lambda x, noise, sample: -x,
    "clean": lambda x, noise, sample: noise.output(x, sample),
}


def conditions(pipe: Any, steps: int) -> int:
    """How many branches run, as far as the pipeline says so; of guiders, which may rest, the most in one step."""
    denoising = getattr(pipe, "decoder_pipe", pipe)  # of pipelines that are made of two
    own = 1 + bool(getattr(denoising, "do_classifier_free_guidance", False))
    at_work = [copy(guider) for guider in guiders_of(pipe) if hasattr(guider, "set_state")]
    return max([own, *(_conditions(guider, step, steps) for guider in at_work for step in range(steps))])


def _conditions(guider: Any, step: int, steps: int) -> int:
    guider.set_state(step, steps, None)
    return int(guider.num_conditions)


def method(guiders: Sequence[str], compared: int, ran: int, *, told: bool) -> str:
    """What guided the steps, in words: the guiders that did, the pipeline itself, or nothing.

    Of the branches that `ran`, so many could be `compared`.
    """
    named = " and ".join(guiders) or "classifier-free guidance"
    if compared > 1:
        return named
    if ran > 1:
        return f"{named}, not measured: the scheduler was given something else than the denoiser's branches say"
    if told:
        return "distilled: the denoiser is told the scale, so there is no second branch"
    return "none: only the prompt's own branch ran, so there is no second branch"
