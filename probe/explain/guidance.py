"""Guidance as an explanation: where, and along which direction, the prompt as a whole moves each step.

It shows how much the prompt changes the prediction in a cell, for whichever word: it does not tell words apart (ask for
`probe.LeaveOneOut()` for that), and it is missing where no second branch runs. Reference: Ho and Salimans,
"Classifier-Free Diffusion Guidance" (2022).
"""

import xarray as xr

from probe.errors import NotRecorded
from probe.explain.nodes import Found, provenance
from probe.heatmap import Heatmap
from probe.readings import Steps
from probe.trace import Trace

UNITS = "norm of the noise prediction"
NORMS = ("cond_norm", "uncond_norm", "negative_norm", "difference_norm", "guided_norm")
CURVES = (*NORMS, "cosine_previous", "cosine_final")
MAGNITUDE = Found("guidance", "magnitude", "guidance", "[]")


def guidance(
    trace: Trace, word: str | None = None, *, steps: Steps = None, image: int = 0, frame: int | None = None
) -> Heatmap:
    """Mean over steps of |eps_cond - eps_uncond|, the norm over channels of each cell; 0 or more.

    `frame` as in `attention`.
    Raises NotRecorded (no second branch ran, or a word was asked for) and NoMatch.
    """
    if word is not None:
        raise NotRecorded(
            f"guidance is the whole prompt's and has no part of {word!r}: record with explain=probe.LeaveOneOut() and "
            "call probe.leave_one_out(trace, word)"
        )
    node = MAGNITUDE.dataset(trace)
    if "magnitude" not in node:
        raise NotRecorded(
            f"there is no guidance to map: {node.attrs.get('method', 'no second branch ran')}; "
            "call the pipeline with a guidance_scale above 1"
        )
    array = MAGNITUDE.at(trace, steps, image, frame)
    origin = provenance(trace, array, image, frame)
    return Heatmap(array.mean("step"), trace.prompt, "guidance", UNITS, origin)


def directions(trace: Trace, *, image: int = 0) -> xr.Dataset:
    """(step) how the guidance goes: norms of the branches and of their difference, and its cosines with the step before
    and with the last one (1: the same way; 0: at right angles).
    """
    node = trace.node("guidance")
    kept = [name for name in CURVES if name in node]
    return node[kept].isel(image=image)
