"""Leave-one-out as an explanation: what the prediction loses, cell by cell, when one word is taken out of the text.

It is a counterfactual of one step: what the word does there and then, all else as it was. It does not show what a
picture made without the word would look like, since later steps would have gone another way, and where two words say
the same it finds nothing for either. Shapley values share such joint effects out; their error says how well they are
sampled. Difference of predictions: Liu et al., "Compositional Visual Generation with Composable Diffusion Models"
(2022); values: Shapley, "A value for n-person games" (1953), sampled over orders as Castro et al. (2009).
"""

from dataclasses import replace

import numpy as np
import xarray as xr

from probe.errors import BadInput
from probe.explain.nodes import Found
from probe.heatmap import Heatmap
from probe.readings import Steps
from probe.trace import Trace

LEFT = Found("leave_one_out", "magnitude", "leave_one_out", "probe.LeaveOneOut()")


def leave_one_out(trace: Trace, word: str, *, steps: Steps = None, image: int = 0, frame: int | None = None) -> Heatmap:
    """Mean over the read steps of |eps(all) - eps(without the word)|, the norm over channels of each cell; 0 or more.

    `frame` as in `attention`.
    Raises NotRecorded (record with `explain=probe.LeaveOneOut()`), NoSuchWord, NoMatch.
    """
    return LEFT.map(trace, word, steps=steps, image=image, frame=frame)


def shares(trace: Trace, *, steps: Steps = None, image: int = 0) -> xr.DataArray:
    """(word) share of the guidance that points along each word's own part, mean over steps; may be negative.

    They sum to one but for what words do together, which is the last entry, "<interaction>".
    """
    node = LEFT.dataset(trace)
    words = replace(LEFT, variable="share").at(trace, steps, image).mean("step", keep_attrs=True)
    rest = (
        replace(LEFT, variable="interaction").at(trace, steps, image).mean("step").expand_dims(word=["<interaction>"])
    )
    return xr.concat([words, rest], "word").rename("share").assign_attrs(words.attrs, against=node.attrs["against"])


def change(trace: Trace, other: Trace, *, image: int = 0) -> xr.DataArray:
    """(y, x) how far the final latents of two runs are apart: norm over channels; `other` as from `probe.without`."""
    first, second = (t.node("latents")["latents"].isel(time=-1, image=image).astype(np.float32) for t in (trace, other))
    if first.shape != second.shape:
        raise BadInput(f"the latents are {first.shape} and {second.shape}: compare runs of one size")
    squares: xr.DataArray = (first - second) ** 2
    return (squares.sum("channel") ** 0.5).rename("change").assign_attrs(units="latents")
