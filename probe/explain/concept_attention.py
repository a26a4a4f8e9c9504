"""Concept attention as an explanation: which of several words a cell of the picture is most alike, said or not.

It compares what cells and words got out of attention, so it can look for words that the prompt does not hold. It is a
choice among the recorded concepts: a cell that is like none of them still goes to one, so name a "background" to set
them against; and likeness is not cause. After Helbling et al., "ConceptAttention" (2025): the softmax over concepts of
inner products, mean over sites and steps. A concept is encoded alone, without its neighbours in the prompt.
"""

import numpy as np
import xarray as xr

from probe.errors import NoMatch
from probe.explain.nodes import Found, provenance, spelt
from probe.heatmap import Heatmap
from probe.readings import Choice, Sites, Steps, of_frame, resize
from probe.site import Site, matches
from probe.trace import Trace

UNITS = "probability among the concepts"
RECORD = "probe.Concepts(words=('background',))"


def concept_attention(
    trace: Trace,
    word: str,
    *,
    steps: Steps = None,
    image: int = 0,
    frame: int | None = None,
    sites: Sites = None,
) -> Heatmap:
    """Mean over sites and steps of the probability that a cell gives to a word among all concepts; 0..1.

    `sites` and `frame` as in `attention`.
    Raises NotRecorded (record with `explain=probe.Concepts(...)`), NoSuchWord, NoMatch.
    """
    parts = [_grid(trace, path, word, Choice(sites, steps, image, frame=frame)) for path in _paths(trace)]
    parts = sorted((part for part in parts if part.sizes["site"]), key=lambda part: part.sizes["y"] * part.sizes["x"])
    if not parts:
        raise NoMatch(f"sites={sites!r} matches none of the sites with concepts")
    weights = np.array([part.sizes["site"] for part in parts], dtype=np.float64)
    planes = [resize(part.mean("site").values, parts[-1].shape[-2:]) for part in parts]
    mean = np.tensordot(weights / weights.sum(), np.stack(planes), axes=1).mean(0)  # [y, x]
    field = xr.DataArray(mean.astype(np.float32), dims=("y", "x"), attrs={"units": UNITS})
    more = {"sites": [str(site) for part in parts for site in part["site"].values], "concepts": parts[0].attrs["words"]}
    origin = provenance(trace, parts[0], image, frame) | more
    return Heatmap(field, str(parts[0]["word"].values), "concept_attention", UNITS, origin)


def _paths(trace: Trace) -> list[str]:
    """The nodes with concepts, one a grid; if there is none, the one that is missing."""
    return [path.strip("/") for path in trace.tree.groups if path.startswith("/concepts/")] or ["concepts"]


def _grid(trace: Trace, path: str, word: str, choice: Choice) -> xr.DataArray:
    """(site, step, y, x) one grid's probabilities of a word."""
    score = Found(path, "score", "concept_attention", RECORD).every(trace, choice.steps, choice.image)
    held = [str(site) for site in score["site"].values]
    score = score.sel(site=[path for path in held if _chosen(path, choice.sites)])
    labels = score["word"].values.tolist()
    p: xr.DataArray = xr.apply_ufunc(np.exp, score - score.max("word"))
    p = (p / p.sum("word")).sel(word=spelt(word, labels, "concepts"))
    return of_frame(p, choice.frame).transpose("site", "step", "y", "x").assign_attrs(words=labels)


def _chosen(path: str, sites: Sites) -> bool:
    """Whether a site is among those that were asked for: by pattern, as a Site, or all."""
    if sites is None:
        return True
    asked = [sites] if isinstance(sites, str) else sites
    return any(path == each.path if isinstance(each, Site) else matches(path, each) for each in asked)
