"""What a denoiser's output says about the clean picture: the same formulas for every scheduler.

x_t = alpha * x_0 + sigma * eps. A denoiser predicts eps, x_0, v = alpha * eps - sigma * x_0 (Salimans & Ho 2022)
or a flow's velocity eps - x_0 (with alpha = 1 - sigma). A trigonometric flow (sCM, Lu & Song 2024) predicts v with
alpha = cos t, sigma = sin t; the pipelines make it of what their denoiser says, which is something else. Of a
preconditioned denoiser (EDM, Karras et al. 2022) x_0 = c_skip * z + c_out * output, z what the scheduler keeps.
"""

from dataclasses import dataclass
from math import cos, sin
from typing import Any

from torch import Tensor

from probe.attach.model.schedule import number, numbers
from probe.errors import RecordingError

FLOWING = 1.001  # no level of a flow lies above 1


@dataclass(frozen=True, slots=True)
class Level:
    """The noise level of one step. `scale` divides what the scheduler keeps, to give x_t as above."""

    kind: str  # "epsilon", "sample", "v_prediction", "flow", "trigflow" or "edm"
    alpha: float
    sigma: float
    scale: float = 1.0
    skip: float = 0.0  # EDM's c_skip and c_out
    out: float = 0.0

    def x0(self, output: Tensor, sample: Tensor) -> Tensor:
        """The predicted clean latents; `sample` as the scheduler keeps it."""
        x, y = sample.float() / self.scale, output.float()
        if self.kind == "sample":
            return y
        if self.kind in ("v_prediction", "trigflow"):
            return self.alpha * x - self.sigma * y
        if self.kind == "flow":
            return x - self.sigma * y
        if self.kind == "edm":
            return self.skip * sample.float() + self.out * y
        return (x - self.sigma * y) / max(self.alpha, 1e-8)

    def output(self, x0: Tensor, sample: Tensor) -> Tensor:
        """What a denoiser says that predicts these clean latents: `x0` turned round."""
        x, y = sample.float() / self.scale, x0.float()
        if self.kind == "sample":
            return y
        if self.kind == "edm":
            return (y - self.skip * sample.float()) / self.out
        share = {"flow": 1.0, "v_prediction": self.alpha, "trigflow": self.alpha}.get(self.kind)
        return (x - self.alpha * y if share is None else share * x - y) / max(self.sigma, 1e-8)

    def epsilon(self, output: Tensor, sample: Tensor) -> Tensor:
        """The predicted noise."""
        x, y = sample.float() / self.scale, output.float()
        if self.kind == "sample":
            return (x - self.alpha * y) / max(self.sigma, 1e-8)
        if self.kind in ("v_prediction", "trigflow"):
            return self.alpha * y + self.sigma * x
        if self.kind == "flow":
            return x + self.alpha * y
        if self.kind == "edm":
            return (x - self.alpha * self.x0(output, sample)) / max(self.sigma, 1e-8)
        return y


def flows(scheduler: Any) -> bool:
    """Whether a scheduler follows a flow, from noise (1) to a picture (0); that of Cosmos 2 has Karras' levels."""
    if "FlowMatch" in type(scheduler).__name__:
        sigmas = getattr(scheduler, "sigmas", None)
        return not (isinstance(sigmas, Tensor) and max(numbers(sigmas)) > FLOWING)
    return scheduler.config.get("prediction_type") == "flow_prediction" or bool(scheduler.config.get("use_flow_sigmas"))


def preconditions(scheduler: Any) -> bool:
    """Whether a scheduler makes x_0 of what it keeps and of what the denoiser says, as EDM does."""
    return hasattr(scheduler, "precondition_outputs")


def _skip_and_out(sigma: float, sigma_data: float, kind: str) -> tuple[float, float]:
    """c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2), below 0 for v (s: sigma_data)."""
    total = sigma**2 + sigma_data**2
    sign = -1 if kind == "v_prediction" else 1
    return sigma_data**2 / total, sign * sigma * sigma_data / total**0.5


def level(scheduler: Any, timestep: Any) -> Level:
    """The noise level that a diffusers scheduler means by `timestep`. Raises RecordingError where it does not tell."""
    config = scheduler.config
    kind = config.get("prediction_type", "epsilon")
    if flows(scheduler):
        sigma = _sigma(scheduler, timestep)
        return Level("flow", 1 - sigma, sigma)
    if hasattr(scheduler, "sigmas") and not _variance_preserving(scheduler):
        sigma = _sigma(scheduler, timestep)
        root = (sigma**2 + 1) ** 0.5
        if preconditions(scheduler):
            return Level("edm", 1 / root, sigma / root, root, *_skip_and_out(sigma, config.sigma_data, kind))
        return Level(kind, 1 / root, sigma / root, root)
    time = number(timestep, scheduler.timesteps)
    if kind == "trigflow":
        return Level(kind, cos(time), sin(time))
    if not hasattr(scheduler, "alphas_cumprod"):
        raise RecordingError(
            f"the noise levels of {type(scheduler).__name__} are not known: it has neither sigmas nor alphas_cumprod; "
            "record with another scheduler of the same model"
        )
    t = min(max(round(time), 0), len(scheduler.alphas_cumprod) - 1)
    abar = numbers(scheduler.alphas_cumprod)[t]
    return Level(kind, abar**0.5, (1 - abar) ** 0.5)


def noise_share(scheduler: Any, position: int) -> float:
    """sigma^2 of x_t = alpha * x_0 + sigma * eps, scaled to alpha^2 + sigma^2 = 1, at a position of the schedule.

    Past the last timestep it is 0.
    """
    if position >= len(scheduler.timesteps):
        return 0.0
    flow = flows(scheduler)
    if flow or (hasattr(scheduler, "sigmas") and not _variance_preserving(scheduler)):
        sigma = numbers(scheduler.sigmas)[position]
        alpha = 1 - sigma if flow else 1.0
        return sigma**2 / (alpha**2 + sigma**2)
    return level(scheduler, scheduler.timesteps[position]).sigma ** 2


def _variance_preserving(scheduler: Any) -> bool:
    """Whether the scheduler keeps x_t itself (DDIM, DPM-Solver, UniPC) and not x_t / alpha (Euler, Heun, LMS)."""
    kept = (
        "DDIM",
        "DDPM",
        "PNDM",
        "DPMSolverMultistep",
        "DPMSolverSinglestep",
        "UniPC",
        "DEIS",
        "SASolver",
        "LCM",
        "TCD",
    )
    return type(scheduler).__name__.startswith(kept)


def _sigma(scheduler: Any, timestep: Any) -> float:
    index = scheduler.step_index
    if index is None:
        time, times = number(timestep, scheduler.timesteps), numbers(scheduler.timesteps)
        index = min(range(len(times)), key=lambda i: abs(times[i] - time))
    between = hasattr(scheduler, "sigmas_interpol") and not scheduler.state_in_first_order  # KDPM2's second halves
    return numbers(scheduler.sigmas_interpol if between else scheduler.sigmas)[index]
