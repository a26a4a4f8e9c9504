"""Schedulers that throw a moved latent away, and what to say then."""

import warnings
from typing import Any

from probe.errors import ProbeWarning
from probe.intervention import LatentIntervention

FORGETFUL = (  # go on from a latent that they kept, so that what is moved in between is lost
    "PNDMScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler",
    "SASolverScheduler",
)


def warn_of(scheduler: Any, intervention: LatentIntervention) -> None:
    """Some schedulers throw a moved latent away."""
    name = type(scheduler).__name__
    if name in FORGETFUL and intervention.strength != 0 and intervention.max_steps > 1:
        warnings.warn(
            f"{name} goes on from a latent that it kept, so what {intervention.method} does to the latents in between "
            "is lost, at its second call at least. Use DDIM: "
            "pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)",
            ProbeWarning,
            stacklevel=2,
        )
