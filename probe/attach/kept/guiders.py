"""Guidance as an object: diffusers' guiders, and the blocks of the modular pipelines that call them."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from probe.attach.borrow import by_name

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


def guided(pipe: Any) -> bool:
    """Whether a second branch runs, as far as the pipeline says so."""
    guider = getattr(pipe, "guider", None)
    conditions = getattr(guider, "num_conditions", 1) if guider is not None else 1
    denoising = getattr(pipe, "decoder_pipe", pipe)  # of pipelines that are made of two
    return conditions > 1 or bool(getattr(denoising, "do_classifier_free_guidance", False))


def method(pipe: Any, compared: int, ran: int, *, told: bool) -> str:
    """What guided the steps, in words: the guider, the pipeline itself, or nothing.

    Of the branches that `ran`, so many could be `compared`.
    """
    guider = getattr(pipe, "guider", None)
    named = type(guider).__name__ if guider is not None else "classifier-free guidance"
    if compared > 1:
        return named
    if ran > 1:
        return f"{named}, not measured: the scheduler was given something else than the denoiser's branches say"
    if told:
        return "distilled: the denoiser is told the scale, so there is no second branch"
    return "none: only the prompt's own branch ran, so there is no second branch"
