"""A part of a tree of arrays: the entries of an axis that were asked for, and the nodes that hold them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.axes import BRANCH
from probe.errors import NoMatch


def several(asked: Any) -> list[Any]:
    """What was asked for, as a list; a text is one thing."""
    return list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]


def members(axis: str, asked: Any, recorded: Sequence[Any]) -> set[Any]:
    """The entries of an axis that a number, a label, several, or a slice means."""
    end = max(recorded, default=-1) + 1 if axis != BRANCH else 0
    if isinstance(asked, slice):
        found = set(range(*asked.indices(end))) & set(recorded)
        missing = [] if found else [asked]
    else:
        places = {entry: entry + end if isinstance(entry, int) and entry < 0 else entry for entry in several(asked)}
        found = set(places.values())
        missing = [entry for entry, place in places.items() if place not in recorded] if places else [asked]
    if missing:
        listed = ", ".join(str(entry) for entry in recorded) or "none"
        raise NoMatch(f"{axis} {missing[0]!r} was not recorded; there are: {listed}")
    return found


def narrow(tree: xr.DataTree, wanted: Mapping[str, set[Any]]) -> xr.DataTree:
    """The nodes of a tree with only the wanted entries of each axis; a node that has none of them is left out."""
    kept: dict[str, xr.Dataset] = {}
    for node in tree.subtree:
        whole, own = node.to_dataset(), node.to_dataset(inherit=False)
        mine = ((axis, some) for axis, some in wanted.items() if axis in own.dims)
        places = {axis: np.isin(whole[axis].values, list(some)).nonzero()[0] for axis, some in mine}
        if all(len(place) for place in places.values()):
            kept[node.path] = own.isel(places)
    lost = [axis for axis in wanted if axis != "time" and not any(axis in d.dims for d in kept.values())]
    if lost:
        raise NoMatch(
            f"no node of this trace holds {lost[0]} {sorted(wanted[lost[0]])} with all else that was asked for"
        )
    return xr.DataTree.from_dict(kept)
