"""Shapley values as an explanation: each word's fair part of the guidance, counting what words only do together.

They share the guidance out exactly: over all words and cells the values sum to 1. They are a mean over orders, sampled
where there are many, and say with what error. They do not tell a word's own effect from its half of a joint one: for
that, look at the interaction that leave-one-out leaves over. After Shapley, "A value for n-person games" (1953).
"""

from dataclasses import replace

import xarray as xr

from probe.explain.nodes import Found
from probe.heatmap import Heatmap
from probe.readings import Steps
from probe.trace import Trace

VALUES = Found("shapley", "value", "shapley", "probe.Shapley()")


def shapley(trace: Trace, word: str, *, steps: Steps = None, image: int = 0, frame: int | None = None) -> Heatmap:
    """Mean over the read steps of a word's value in each cell, as a share of the squared guidance; may be negative.

    `frame` as in `attention`; the values of a film sum to 1 over all its frames.

    Raises NotRecorded (record with `explain=probe.Shapley()`), NoSuchWord, NoMatch.
    """
    return VALUES.map(trace, word, steps=steps, image=image, frame=frame)


def values(trace: Trace, *, steps: Steps = None, image: int = 0) -> xr.Dataset:
    """(word) `share`: a word's value over all cells, mean over steps; `error`: one standard error of its sampling."""
    share, error = (replace(VALUES, variable=name).at(trace, steps, image) for name in ("share", "error"))
    spread = (error**2).sum("step") ** 0.5 / error.sizes["step"]
    return xr.Dataset({"share": share.mean("step", keep_attrs=True), "error": spread})
