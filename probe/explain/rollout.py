"""Rollout as an explanation: the attention of a word, carried on by the recorded self-attention of the picture's cells.

Cells that attend to one another share what one of them read, so a map of parts becomes a map of the whole thing. As
attention, it shows where information could flow, not that it did: neither values nor gradients take part, each layer
counts as half attention and half carrying on, and the low-rank relation is an approximation (`provenance["relation"]`
says which was there). After Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020), whose rule
m <- (m + P m) / 2 is applied here to the cells at the finest grid that was recorded.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from probe.axes import FRAME, Branch
from probe.errors import BadInput, NotRecorded
from probe.explain.nodes import provenance
from probe.heatmap import Heatmap
from probe.readings import ALL, UNITS, Choice, Steps, resize, span, word_maps
from probe.trace import Trace

KINDS = ("full", "low_rank")  # the better first
RELATIONS = "relations/image_to_image"
LEAST = 1e-6


def rollout(
    trace: Trace,
    word: str,
    *,
    steps: Steps = None,
    image: int = 0,
    branch: Branch = "cond",
    frame: int | None = None,
) -> Heatmap:
    """Mean over steps of a word's attention, carried through the self-attention of all sites of one grid; about 0..1.

    Raises NotRecorded (record with `relations=["image->text", "image->image:low-rank"]`), NoSuchWord, NoMatch,
    and BadInput for films. `frame` as in `attention`, of which pictures have none.
    """
    return rollouts(trace, [word], Choice(None, steps, image, branch, frame))[0]


def rollouts(trace: Trace, words: Sequence[str], choice: Choice = ALL) -> list[Heatmap]:
    """The rollouts of several words, for little more than that of one. Raises as `rollout` does."""
    path, node = _relation(trace)
    if FRAME in node.dims:
        raise BadInput(
            f"rollout follows the cells of one image, and {path} is of a video of {node.sizes[FRAME]} frames; for one "
            f"of them call probe.attention(trace, {words[0]!r}, frame=0)"
        )
    maps = word_maps(trace, words, choice)
    held = node["step"].values.tolist()
    looked_at = span([held.index(step) for step in maps["step"].values])
    part = node.sel(branch=choice.branch).isel(image=choice.image, step=looked_at).load()
    grid = (node.sizes["y"], node.sizes["x"])
    m = resize(maps.transpose("word", "step", "y", "x").values, grid).reshape(len(words), maps.sizes["step"], -1)
    for site in _in_order(trace, node):
        m = (m + looked(part.sel(site=site), m)) / 2
    fields = m.mean(1).reshape(len(words), *grid).astype(np.float32)
    told = provenance(trace, maps, choice.image)
    told |= {"relation": path.removeprefix(RELATIONS).strip("/"), "sites": _in_order(trace, node)}
    arrays = [xr.DataArray(field, dims=("y", "x"), attrs={"units": UNITS}) for field in fields]
    return [Heatmap(array, trace.word(w), "rollout", UNITS, told) for w, array in zip(words, arrays, strict=True)]


def looked(part: xr.Dataset, m: np.ndarray) -> np.ndarray:
    """P m / P 1 [word, step, cell]: what each cell finds where it looks, of one site's relation among cells."""
    both = np.concatenate([m, np.ones_like(m[:1])])  # [word + 1, step, cell]
    if "share" in part:
        P = part["share"].transpose("step", "cell", "y", "x").values
        found = np.einsum("snm,ksm->ksn", P.reshape(*P.shape[:2], -1), both, optimize=True)
    else:
        asking, asked = (part[name].transpose("step", "rank", "y", "x").values for name in ("asking", "asked"))
        flat = (*asking.shape[:2], -1)
        within = np.einsum("srm,ksm->ksr", asked.reshape(flat), both, optimize=True)
        within = within * part["size"].transpose("step", "rank").values
        found = np.einsum("srn,ksr->ksn", asking.reshape(flat), within, optimize=True)
    return found[:-1] / np.maximum(found[-1], LEAST)


def _relation(trace: Trace) -> tuple[str, xr.Dataset]:
    """The finest recorded relation among cells, whole before low rank."""
    paths = [path.strip("/") for path in trace.tree.groups]
    for kind in KINDS:
        found = [path for path in paths if path.startswith(f"{RELATIONS}/{kind}/")]
        if found:
            nodes = {path: trace.node(path) for path in found}
            return max(nodes.items(), key=lambda item: item[1].sizes["y"] * item[1].sizes["x"])
    held = [path.removeprefix("relations/") for path in paths if path.startswith(RELATIONS) and path.count("/") > 2]
    raise NotRecorded(
        "rollout needs who attends to whom among the cells; record it with "
        'probe.record(pipe, relations=["image->text", "image->image:low-rank"]) (or image->image:full on small grids)'
        + (f"; this trace holds {', '.join(held)} alone" if held else "")
    )


def _in_order(trace: Trace, node: xr.Dataset) -> list[str]:
    """The relation's sites as they run."""
    order = {site.path: site.order for site in trace.sites}
    return sorted(map(str, node["site"].values), key=lambda path: order.get(path, 0))
