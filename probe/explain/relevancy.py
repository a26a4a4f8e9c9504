"""Relevancy as an explanation: how much of each cell's output rests on a word, through all attention of the denoiser.

Unlike attention it follows the gradient of a target, so it counts only what raised the target, and it carries words
through self-attention, changes of resolution, skip connections and joint blocks, and then back through the text encoder
to the tokens that went in. It says nothing about what lowered the target (negative evidence is cut), nor about what
convolutions, feed-forward layers and pooled text states moved.
Rules: Chefer, Gur, Wolf, "Generic Attention-model Explainability" (2021), carried over to denoisers.
"""

from typing import Literal

import numpy as np
import xarray as xr

from probe.errors import NotRecorded
from probe.explain.nodes import Found, provenance, spelt
from probe.heatmap import Heatmap
from probe.readings import Steps
from probe.trace import Trace

UNITS = "relevancy (gradient x attention)"
FOUND = Found("relevancy", "relevancy", "relevancy", "probe.Relevancy()")
Over = Literal["mean", "noise"]


def relevancy(
    trace: Trace,
    word: str,
    *,
    steps: Steps = None,
    image: int = 0,
    frame: int | None = None,
    over: Over = "mean",
) -> Heatmap:
    """The relevancy of a word for each cell over the explained steps; 0 or more.

    `steps` are numbers of explained steps, a slice of them, or all. `over`: "mean" counts every step alike; "noise" is
    their sum, each weighted by the root of the share of noise that it removed.
    `frame` as in `attention`: relevancy follows pictures, which have none.
    Raises NotRecorded (record with `explain=probe.Relevancy()`), NoSuchWord and NoMatch.
    """
    maps = relevancy_maps(trace, steps=steps, image=image, frame=frame)
    label = spelt(word, maps["word"].values.tolist(), "relevancy")
    field = xr.dot(_weights(trace, maps, over), maps.sel(word=label, drop=True), dim="step").astype(np.float32)
    origin = provenance(trace, maps, image, frame) | maps.attrs | {"over": over}
    return Heatmap(field, label, "relevancy", UNITS, origin)


def relevancy_maps(trace: Trace, *, steps: Steps = None, image: int = 0, frame: int | None = None) -> xr.DataArray:
    """(step, word, y, x) the relevancy of every word of a picture's prompt. Arguments and errors as in `relevancy`."""
    return FOUND.at(trace, steps, image, frame).dropna("word", how="all")


def _weights(trace: Trace, maps: xr.DataArray, over: Over) -> xr.DataArray:
    """(step) what each step counts."""
    steps = maps["step"].values
    if over == "mean":
        return xr.DataArray(np.full(len(steps), 1 / len(steps)), {"step": steps}, "step")
    node = FOUND.dataset(trace)
    if "noise_removed" not in node:
        raise NotRecorded(
            "this trace does not say how much noise each step took off; record it again, or use over='mean'"
        )
    return node["noise_removed"].sel(step=steps) ** 0.5
