"""A part of a tree of arrays: the entries of an axis that were asked for, and the nodes that hold them."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr

from probe.axes import BRANCH, IMAGE, SITE, STEP, WORD
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
        places = {
            entry: entry + end if isinstance(entry, Integral) and entry < 0 else entry for entry in several(asked)
        }
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
        if len(places.get(STEP, "some")) == 0:
            check_groups(own, wanted[STEP], node.path)
        if all(len(place) for place in places.values()):
            kept[node.path] = own.isel(places)
    lost = [axis for axis in wanted if axis != "time" and not any(axis in d.dims for d in kept.values())]
    if lost:
        raise NoMatch(
            f"no node of this trace holds {lost[0]} {sorted(wanted[lost[0]])} with all else that was asked for"
        )
    return xr.DataTree.from_dict(kept)


def check_groups(node: xr.Dataset, wanted: set[Any], path: str) -> None:
    """Raises NoMatch for steps that a node holds in its means of several steps, none of which begins with one."""
    if "steps" not in node.coords:
        return
    first, counts = node[STEP].values.tolist(), node["steps"].values.tolist()
    inside = sorted(step for step in wanted if first[0] <= step < first[-1] + counts[-1])
    if inside:
        groups = ", ".join(f"{step} ({count})" for step, count in zip(first, counts, strict=True))
        raise NoMatch(
            f"step {inside[0]} was not kept apart in {path}, which holds means of groups of steps; they begin at (and "
            f'are of so many): {groups}. Select one of these, or record with keep="maps", which keeps every step'
        )


def read_words(nodes: Sequence[xr.Dataset], image: int, branch: str | None = None) -> tuple[str, ...]:
    """Labels of which the first of some nodes of attention has readings for a picture, in a branch or in any."""
    there = _there(nodes, image, branch)
    if there is None:
        return ()
    return tuple(str(label) for label in there[WORD].values[there.any(STEP).values])


def _there(nodes: Sequence[xr.Dataset], image: int, branch: str | None) -> xr.DataArray | None:
    """(step, word): whether the first site has a reading for a picture, in a branch or in any."""
    images: list[Any] = nodes[0][IMAGE].values.tolist() if nodes else []
    if image not in images:
        return None
    array = nodes[0]["attention"].isel({SITE: 0, IMAGE: images.index(image)})
    if branch is not None:
        array = array.isel({BRANCH: array[BRANCH].values == branch})
    return array.notnull().any([axis for axis in array.dims if axis not in (STEP, WORD)])


def _steps(nodes: Sequence[xr.Dataset], label: str, image: int, branch: str | None) -> list[int]:
    """The steps at which the first site has a reading of a word."""
    there = _there(nodes, image, branch)
    if there is None:
        return []
    read = there.isel({WORD: there[WORD].values == label}).any(WORD)
    return there[STEP].values[read.values].tolist()


def silent(nodes: Iterable[xr.Dataset]) -> list[Any]:
    """Labels of which no node of attention has a reading. It looks at one site after the other until all are found."""
    left: list[Any] | None = None
    for array in (node["attention"].isel({SITE: i}) for node in nodes for i in range(node.sizes[SITE])):
        part = array if left is None else array.sel({WORD: left})
        nothing = part.isnull().all([axis for axis in part.dims if axis != WORD])
        left = part[WORD].values[nothing.values].tolist()
        if not left:
            break
    return left or []


def silence(nodes: Sequence[xr.Dataset], label: str, image: int, branch: str | None, texts: Mapping[str, str]) -> str:
    """What to say of a word without readings: where it has none, where else it has, which words there are; or that the
    branch which reads it did not run at the steps that were asked for.

    `texts` say what each branch reads for this picture.
    """
    where = f"picture {image}" if branch is None else f"picture {image}, branch {branch!r}"
    steps = _steps(nodes, label, image, branch)
    if steps:
        listed = ", ".join(map(str, steps))
        return f"{label!r} was not read for {where} at these steps, where no branch ran that has it: choose of {listed}"
    others = [other for other in texts if branch is not None and label in read_words(nodes, image, other)]
    elsewhere = f"it is a word of the {texts[others[0]]}, which branch {others[0]!r} reads; " if others else ""
    words = ", ".join(read_words(nodes, image, branch)) or "none"
    said = f"{label!r} has no readings for {where}, of the {texts[branch or 'cond']}"
    return f"{said}; {elsewhere}the words of {where} are: {words}"
