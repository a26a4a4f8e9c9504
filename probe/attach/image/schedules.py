"""Schedulers that lead a pipeline's own loop over an existing picture: up to noise, back again, or from level to level.

They stand in for the pipeline's scheduler while a block runs; the loop is the pipeline's.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from probe.attach.borrow import around
from probe.attach.model.prediction import Level, flows, level, preconditions
from probe.errors import BadInput

STILL = {"clip_sample": False, "thresholding": False, "set_alpha_to_one": False}  # what would cut latents off
SPACINGS = ("leading", "trailing")  # those that the inverse of DDIM knows
Arguments = dict[str, Any]


def plain(scheduler: Any) -> Any:
    """A deterministic scheduler of first order for the same noise levels: DDIM (Song et al. 2021), Euler for flows."""
    _check(scheduler)
    if flows(scheduler):
        return FlowMatchEulerDiscreteScheduler.from_config(scheduler.config, stochastic_sampling=False)
    return DDIMScheduler.from_config(scheduler.config, **_ddim(scheduler))


def _check(scheduler: Any) -> None:
    """Raises BadInput for a denoiser whose output is no noise, velocity or picture, which DDIM would take it for."""
    if preconditions(scheduler):
        raise BadInput(
            f"record_image leads a pipeline by DDIM, and {type(scheduler).__name__} preconditions its denoiser (EDM), "
            "which DDIM cannot; generate a picture and record that: probe.record(pipe)"
        )


@contextmanager
def upward(pipe: Any) -> Iterator[None]:
    """The pipeline's loop runs from a picture's latents to the noise: what `plain` does, backwards.

    Each step takes the prediction at its lower end for that at its upper end, so a round trip is exact only in the
    limit of many steps.
    """
    _check(pipe.scheduler)
    with ExitStack() as stack:
        if flows(pipe.scheduler):
            scheduler = plain(pipe.scheduler)
            stack.enter_context(around(scheduler, "set_timesteps", lambda *call: _turn_round(scheduler, *call)))
        else:
            scheduler = DDIMInverseScheduler.from_config(pipe.scheduler.config, **_ddim(pipe.scheduler))
        stack.enter_context(exchanged(pipe, scheduler))
        yield


def _turn_round(scheduler: Any, original: Any, args: tuple[Any, ...], kwargs: Arguments) -> None:
    """sigma_0 > ... > sigma_N = 0 become 0 < ... < sigma_0; the model is asked at the upper end of each step."""
    original(*args, **kwargs)
    scheduler.timesteps, scheduler.sigmas = scheduler.timesteps.flip(0), scheduler.sigmas.flip(0)


def _ddim(scheduler: Any) -> Arguments:
    spacing = scheduler.config.get("timestep_spacing")
    return STILL | {"timestep_spacing": spacing if spacing in SPACINGS else SPACINGS[0]}


@contextmanager
def exchanged(pipe: Any, scheduler: Any) -> Iterator[None]:
    """Another scheduler in the pipeline, while the block runs."""
    before = pipe.scheduler
    pipe.scheduler = scheduler
    try:
        yield
    finally:
        pipe.scheduler = before


@dataclass(frozen=True)
class Noised:
    """A picture's latents z with the noise eps, at each of several timesteps: x_t = alpha * z + sigma * eps."""

    scheduler: Any  # of its own, from `plain`
    z: Tensor
    eps: Tensor
    timesteps: Sequence[int]  # from much noise to little

    def at(self, timestep: int) -> Tensor:
        """x_t, as the scheduler keeps it."""
        noise = self._level(timestep)
        return noise.scale * (noise.alpha * self.z + noise.sigma * self.eps)

    @contextmanager
    def shown(self, pipe: Any) -> Iterator[None]:
        """The pipeline's loop makes one pass at each timestep, and the scheduler moves on to the next one's x_t."""
        with ExitStack() as stack:
            stack.enter_context(around(self.scheduler, "set_timesteps", self._set))
            stack.enter_context(around(self.scheduler, "step", self._step))
            stack.enter_context(exchanged(pipe, self.scheduler))
            yield

    def _level(self, timestep: int) -> Level:
        if not flows(self.scheduler):
            return level(self.scheduler, timestep)
        sigma = timestep / self.scheduler.config.num_train_timesteps
        return Level("flow", 1 - sigma, sigma)

    def _set(self, original: Any, args: tuple[Any, ...], kwargs: Arguments) -> None:
        original(*args, **kwargs)
        own = self.scheduler.timesteps
        self.scheduler.timesteps = torch.tensor(self.timesteps, dtype=own.dtype, device=own.device)
        if hasattr(self.scheduler, "sigmas"):
            sigmas = self.scheduler.timesteps / self.scheduler.config.num_train_timesteps
            self.scheduler.sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])

    def _step(self, original: Any, args: tuple[Any, ...], kwargs: Arguments) -> Any:
        result = original(*args, **kwargs)
        before = kwargs["timestep"] if "timestep" in kwargs else args[1]
        later = [t for t in self.timesteps if t < float(before)]
        like = result[0]
        following = (self.at(max(later)) if later else self.z).to(like.device, like.dtype)
        if isinstance(result, tuple):
            return (following, *result[1:])
        result.prev_sample = following
        return result
