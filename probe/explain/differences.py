"""The parts of a comparison: each takes two traces and gives a Dataset, or says what has to be recorded for it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.axes import IMAGE, SPECIAL, STEP
from probe.comparison import ALL, SIDES
from probe.errors import NoSuchWord, NotRecorded
from probe.explain import distances
from probe.explain.pairing import Both, step_coords
from probe.readings import UNITS, chosen_sites, resize
from probe.trace import Trace

NORMS = tuple(f"{name}_norm" for name in ("difference", "cond", "uncond", "negative", "guided", "update"))
FAR = {"latents": ("latents", "time"), "predicted": ("latents", STEP), "thumbnails": ("thumbnails", STEP)}
KINDS = ("content", "other", *SPECIAL)
REST = "not recorded"
MAP = (STEP, "word")
NO_WORD = 'no word is in both; set words beside each other: words={"cat": "dog"}'


def maps(both: Both) -> xr.Dataset:
    """The maps over all sites, on one grid."""
    values, coords = _stacked(both, None)
    share = (("trace", *MAP, "y", "x"), values.astype(np.float32), {"units": UNITS})
    return xr.Dataset({"share": share}, coords)


def apart(both: Both) -> xr.Dataset:
    """How far the maps are apart: over all sites, and over each group that both traces have."""
    values, coords = _stacked(both, None)
    ours, theirs = (dict.fromkeys(site.group for site in chosen_sites(trace)) for trace in both.traces)
    parts = [_of_group(ALL, values, coords)]
    parts += [_of_group(group, *_stacked(both, group)) for group in ours if group in theirs]
    return xr.concat(parts, "group", data_vars="all", coords="minimal", compat="override", join="exact")


def _stacked(both: Both, group: str | None) -> tuple[np.ndarray, dict[str, Any]]:
    """[trace, step, word, y, x] float64 on the coarser of the two grids, and its coordinates."""
    steps = both.attended()
    if not both.words:
        raise NoSuchWord(NO_WORD)
    labels = list(both.words), list(both.words.values())
    found = both.maps(labels, steps, group)
    grid = tuple(min(sizes) for sizes in zip(*(each.shape[-2:] for each in found), strict=True))
    values = np.stack([resize(each, grid).astype(np.float64) for each in found])
    return values, step_coords(steps) | {"trace": list(SIDES), "word": labels[0], "second_word": ("word", labels[1])}


def _of_group(name: str, values: np.ndarray, coords: Mapping[str, Any]) -> xr.Dataset:
    a, b = values  # [step, word, y, x]
    down, right = np.moveaxis(distances.centre(b) - distances.centre(a), -1, 0)
    found = {
        "correlation": distances.correlation(a, b),
        "divergence": distances.divergence(a, b),
        "shift": np.hypot(down, right),
        "shift_y": down,
        "shift_x": right,
    }
    arrays: dict[str, Any] = {measure: (("group", *MAP), each[None]) for measure, each in found.items()}
    arrays["amount"] = (("group", "trace", *MAP), values.mean((-2, -1))[None])
    grid = {axis: ("group", [size]) for axis, size in zip(("rows", "columns"), a.shape[-2:], strict=True)}
    return xr.Dataset(arrays, {**coords, **grid, "group": [name]})


def guidance(both: Both) -> xr.Dataset:
    """Norms of each, and the cosine of one guidance with the other where both kept their branches' predictions."""
    nodes = both.nodes("guidance")
    steps = both.steps(node[STEP].values.tolist() for node in nodes)
    cut = [node.sel({STEP: chosen}) for node, chosen in zip(nodes, steps, strict=True)]
    names = [name for name in (*NORMS, "update_ratio") if all(name in node for node in cut)]
    arrays: dict[str, Any] = {name: (("trace", STEP), np.stack([node[name].values for node in cut])) for name in names}
    pulls = [_pull(trace, image, chosen) for trace, image, chosen in zip(both.traces, both.images, steps, strict=True)]
    if all(map(len, pulls)) and pulls[0].shape == pulls[1].shape:
        arrays["cosine"] = (STEP, distances.cosine(*pulls))
    return xr.Dataset(arrays, step_coords(steps) | {"trace": list(SIDES)})


def _pull(trace: Trace, image: int, steps: list[int]) -> np.ndarray:
    """[step, ...] x0_cond - x0_uncond, which lies along eps_uncond - eps_cond; empty where it was not kept.

    Predictions are kept as float16, so the direction is rough where next to no noise is left.
    """
    node = trace.node("latents") if "latents" in trace.tree.children else xr.Dataset()
    other = next((name for name in ("predicted_uncond", "predicted_negative") if name in node), None)
    if other is None or "predicted_cond" not in node:
        return np.empty(0)
    chosen = node.sel({IMAGE: image, STEP: steps})
    return chosen["predicted_cond"].values.astype(np.float64) - chosen[other].values


def latents(both: Both) -> xr.Dataset:
    """How far latents, predicted latents and predicted pictures are apart at each step."""
    found = {name: array for name in FAR if (array := _far(both, name)) is not None}
    if not found:
        raise NotRecorded("no latents of one shape are in both; record both with probe.record(pipe), at one size")
    return xr.Dataset(found)


def _far(both: Both, name: str) -> xr.DataArray | None:
    """(step) of one record; None where it is not in both, or of two shapes."""
    group, axis = FAR[name]
    if not all(group in trace.tree.children and name in trace.node(group) for trace in both.traces):
        return None
    nodes = both.nodes(group)
    recorded = [node[STEP].values.tolist() for node in nodes]
    steps = both.steps(recorded)
    sides = zip(nodes, recorded, steps, strict=True)
    a, b = (node[name].isel({axis: _places(axis, own, chosen)}).values for node, own, chosen in sides)
    if a.shape != b.shape:
        return None
    unit = 255.0 if group == "thumbnails" else 1.0
    return xr.DataArray(distances.rms(a / unit, b.astype(np.float64) / unit), step_coords(steps), (STEP,))


def _places(axis: str, recorded: list[int], chosen: list[int]) -> list[int]:
    """Where the entries of steps lie along an axis; `time` has the states before and after each step."""
    entries = recorded if axis == STEP else sorted({*recorded, *(step + 1 for step in recorded)})
    return [entries.index(step) for step in chosen]


def mass(both: Both) -> xr.Dataset:
    """What each class of tokens gets of the attention, in each trace."""
    steps = both.attended()
    known = [_kinds(trace, image) for trace, image in zip(both.traces, both.images, strict=True)]
    means = [each.mean((-2, -1), dtype=np.float64) for each in both.maps([list(kinds) for kinds in known], steps)]
    shares = [_sums(each, list(kinds.values())) for each, kinds in zip(means, known, strict=True)]
    coords = step_coords(steps) | {"trace": list(SIDES), "kind": [*KINDS, REST]}
    return xr.Dataset({"share": (("trace", "kind", STEP), np.stack(shares), {"units": UNITS})}, coords)


def _kinds(trace: Trace, image: int) -> dict[str, str]:
    """The class of every recorded word and special token; a phrase has none, as its words would count twice."""
    own = {word.label: KINDS[0] if word.content else KINDS[1] for word in trace.words_of(image)}
    known = own | {special: special for special in SPECIAL}
    return {label: known[label] for label in trace.labels_of(image) if label in known}


def _sums(means: np.ndarray, kinds: list[str]) -> np.ndarray:
    """[step, word] -> [kind, step]: NaN for a class of which nothing was recorded, and the rest to 1."""
    of = np.array(kinds)
    nothing = np.full(len(means), np.nan)
    return np.stack([*(means[:, of == kind].sum(1) if kind in kinds else nothing for kind in KINDS), 1 - means.sum(1)])


PARTS: Mapping[str, Callable[[Both], xr.Dataset]] = {
    "maps": maps,
    "distances": apart,
    "guidance": guidance,
    "latents": latents,
    "mass": mass,
}
