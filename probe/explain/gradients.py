"""Gradients as an explanation: what the prediction owes to the latents of each cell, or to each word's text states.

A map says where in the noisy latents a word's part of the prediction comes from; scores say which words' states a
target comes from, the special tokens among them, which often hold much of the prompt. Gradients are local and shatter:
input x gradient sees the slope alone, integrated gradients depend on their baseline, occlusion takes the input to where
the model never was. They do not say what the picture would have been. Methods: Captum; integrated gradients after
Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (2017); noise after Smilkov et al., "SmoothGrad"
(2017).
"""

import xarray as xr

from probe.explain.nodes import Found
from probe.heatmap import Heatmap
from probe.readings import Steps
from probe.trace import Trace

LATENTS, TEXT = "latents", "text"


def gradients(
    trace: Trace,
    word: str,
    *,
    steps: Steps = None,
    image: int = 0,
    frame: int | None = None,
    label: str = LATENTS,
) -> Heatmap:
    """Mean over the read steps of the attribution of a word's part of the prediction to each cell; may be negative.

    `label` tells several of one recording apart, each asked for as `probe.Gradients(label=...)`.
    `frame` as in `attention`.
    Raises NotRecorded (record with `explain=probe.Gradients()`), NoSuchWord, NoMatch.
    """
    return _found(label, LATENTS, "map").map(trace, word, steps=steps, image=image, frame=frame)


def token_scores(trace: Trace, *, steps: Steps = None, image: int = 0, label: str = TEXT) -> xr.DataArray:
    """(word) the attribution of the target to each word and special token, mean over steps; may be negative.

    `label` tells several of one recording apart.
    Raises NotRecorded (record with `explain=probe.Gradients(on="text")`), NoMatch.
    """
    return _found(label, TEXT, "score").at(trace, steps, image).mean("step", keep_attrs=True).rename("score")


def _found(label: str, on: str, variable: str) -> Found:
    """Where attributions lie in a trace, and how they are asked for."""
    given = [f"on={on!r}"] * (on != LATENTS) + [f"label={label!r}"] * (label != on)
    return Found(f"gradients/{label}", variable, "gradients", f"probe.Gradients({', '.join(given)})")
