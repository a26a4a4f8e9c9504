"""Keeps the relations that were asked for beside cells to words, and lays them out as nodes of a trace."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.attach.kept.keeping import Kept
from probe.attach.kept.relations import (
    RANK,
    View,
    by_frame,
    looked_at,
    looks,
    low_rank,
    matrix,
    of_words,
    received,
    row_sums,
    unfolded,
)
from probe.attach.text.lexicon import Lexicon
from probe.attach.waist import Call
from probe.axes import BRANCH, FRAME, IMAGE, SITE, STEP, WORD, X, Y
from probe.errors import BadInput, MissingReadings, NoMatch, OverBudget
from probe.site import Site

WORDS = "image->text"
KINDS = {
    "text->image": "text_to_image",
    "text->text": "text_to_text",
    "image->image:mean": "image_to_image/mean",
    "image->image:rows": "image_to_image/rows",
    "image->image:columns": "image_to_image/columns",
    "image->image:low-rank": "image_to_image/low_rank",
    "image->image:full": "image_to_image/full",
    "frame->frame": "frame_to_frame",
}
SHORT = {"image->image": "image->image:mean", "temporal": "frame->frame"}
Spot = tuple[float, float]  # y and x of a cell, from 0 to 1


@dataclass(frozen=True, slots=True)
class Asked:
    """The relations to read. `cells` are chosen by their place in the picture, (y, x) from 0 to 1."""

    kinds: tuple[str, ...] = ()
    cells: tuple[Spot, ...] = ((0.5, 0.5),)
    words: bool = True  # cells to words too


def asked(relations: Sequence[str], cells: Sequence[Spot]) -> Asked:
    """The caller's relations, checked. Raises BadInput, naming those that there are."""
    kinds = tuple(dict.fromkeys(SHORT.get(name, name) for name in relations if name != WORDS))
    wrong = [name for name in kinds if name not in KINDS]
    if wrong:
        raise BadInput(f"there is no relation {wrong[0]!r}; there are: {', '.join([WORDS, *SHORT, *KINDS])}")
    if not cells and any(name.endswith(("rows", "columns")) for name in kinds):
        raise BadInput("cells=[]: name the cells that the rows or columns are of, as (y, x) from 0 to 1: [(0.5, 0.5)]")
    outside = [cell for cell in cells if not all(0 <= side <= 1 for side in cell)]
    if outside:
        raise BadInput(f"cells={outside[0]}: a cell is chosen by (y, x) from 0 to 1, the picture's corners")
    return Asked(kinds, tuple(cells), WORDS in relations)


@dataclass
class Held:
    """Sums over steps, and of how many; `seen` counts those too that are not in the sum."""

    values: list[Tensor]
    count: int = 1
    seen: int = 1

    def add(self, values: Sequence[Tensor]) -> None:
        """One more step."""
        self.values = [old + new for old, new in zip(self.values, values, strict=True)]
        self.count += 1


@dataclass
class RelationReader:
    """What was asked for, by relation, place, branch, group of steps and picture, on the model's device."""

    asked: Asked = field(default_factory=Asked)
    limit: int = 2**31
    exact: bool = False  # scores in float64 where they can be, not the kernel's float32 sum
    held: dict[str, dict[tuple[tuple[str, int], str], dict[tuple[int, int], Held]]] = field(default_factory=dict)
    sites: dict[tuple[str, int], Site | None] = field(default_factory=dict)
    words: dict[tuple[str, int], Lexicon] = field(default_factory=dict)
    ran: set[tuple[int, str, str]] = field(default_factory=set)  # step, denoiser and branch of all passes
    width: int = 0  # labels on the axis of words, over all branches
    projected: int = 0  # bytes that will be held at the end
    counts_only: bool = False  # what it would hold, not what it reads
    looked: bool = False  # whether any call was seen

    def read(self, call: Call, lse: Tensor | None, view: View, lexicon: Lexicon | None, kept: Kept) -> None:
        """Take what one call shows. Raises OverBudget as soon as the run would hold more than it may."""
        self.looked = True
        if lexicon is not None:
            self.words |= {(view.branch, image): lexicon for image in view.images}
        for kind in self.asked.kinds:
            if self._fits(kind, view, lexicon):
                self._allow(kind, call, view, kept)
                self._keep(kind, view, kept, [] if self.counts_only else self._values(kind, call, lse, view, lexicon))

    def check_there(self) -> None:
        """Raises NoMatch for what was asked for and no call has, once calls of wanted steps and words were seen."""
        spoken = any(lexicon.columns for lexicon in self.words.values())
        told = [kind for kind in self.asked.kinds if self.looked and (spoken or not kind.startswith("text"))]
        if absent := [kind for kind in told if kind not in self.held]:
            raise NoMatch(
                f"relations={absent}: no site of this model has any of them (the text of a U-Net asks nothing, only "
                f"films have frames). Ask for {WORDS!r} or 'image->image', or for other sites"
            )

    def _fits(self, kind: str, view: View, lexicon: Lexicon | None) -> bool:
        if kind.startswith("text"):
            there = kind == "text->text" or view.picture is not None
            return bool(view.text and lexicon and lexicon.columns) and there
        if kind == "frame->frame":
            return view.site is not None and view.site.frames > 1 and view.folded == 1 and view.picture is not None
        return view.picture is not None and not view.temporal

    def _values(self, kind: str, call: Call, lse: Tensor | None, view: View, lexicon: Lexicon | None) -> list[Tensor]:
        if kind.startswith("text"):
            assert lexicon is not None
            picture = view.picture if kind == "text->image" else None
            return [of_words(call, lexicon, range(view.first, view.first + view.text), picture, exact=self.exact)]
        assert view.picture is not None
        rows, chosen = view.picture, self._cells(view, call.q.device) + view.picture.start
        if kind.endswith("rows"):
            return [unfolded(looks(call, chosen, columns=rows, exact=self.exact), view)]
        sums = row_sums(call, lse, exact=self.exact)
        if kind == "frame->frame":
            assert view.site is not None
            share = by_frame(call, rows, rows, sums, view.site.frames)
            return [share.unflatten(0, (len(view.images), -1)).mean(1)]
        if kind.endswith("mean"):
            return [unfolded(received(call, rows, rows, sums)[:, None], view)]
        if kind.endswith("full"):
            return [unfolded(matrix(call, rows, rows, sums), view)]
        if kind.endswith("low-rank"):
            left, size, right = low_rank(call, rows, rows, sums)
            return [unfolded(left, view), unfolded(right, view), size.unflatten(0, (-1, view.folded)).mean(1)]
        return [unfolded(looked_at(call, rows, chosen, sums), view)]

    def _cells(self, view: View, device: torch.device) -> Tensor:
        """The chosen cells' numbers in the picture, in the middle frame of a film that lies in one sequence."""
        assert view.site is not None
        y, x = view.site.grid
        frame = view.site.frames // 2 if view.folded == 1 else 0
        places = [min(int(v * y), y - 1) * x + min(int(h * x), x - 1) for v, h in self.asked.cells]
        return torch.tensor([frame * y * x + place for place in places], device=device)

    def _allow(self, kind: str, call: Call, view: View, kept: Kept) -> None:
        """Count the bytes of pictures that are new at a place, before they are taken; prompts may come one by one."""
        held = self.held.get(kind, {}).get((view.place, view.branch), {})
        new = set(view.images) - {image for _, image in held}
        cells = 0 if view.picture is None else (view.picture.stop - view.picture.start) * view.folded
        sizes = {
            "text->image": self.width * cells,
            "text->text": self.width * self.width,
            "image->image:mean": cells,
            "image->image:low-rank": (2 * cells + 1) * RANK,
            "image->image:full": cells * cells // view.folded,
            "frame->frame": 0 if view.site is None else view.site.frames**2,
        }
        size = sizes.get(kind, len(self.asked.cells) * cells)
        self.projected += 4 * size * len(new) * max(1, len(kept.slots.slots))
        if self.projected > self.limit:
            raise OverBudget(
                f"relations={list(self.asked.kinds)} would hold more than {self.limit:,} bytes: {kind} at {call.path} "
                f"has {cells:,} cells. Ask for fewer sites or steps, for image->image:low-rank, or for a larger budget="
            )

    def _keep(self, kind: str, view: View, kept: Kept, values: list[Tensor]) -> None:
        self.sites[view.place] = view.site
        found = self.held.setdefault(kind, {}).setdefault((view.place, view.branch), {})
        slot = kept.slots.of[view.step]
        for i, image in enumerate(view.images):
            own = [value[i].detach() for value in values]
            before = found.get((slot, image))
            if before is None:
                found[slot, image] = Held(own)
                continue
            before.seen += 1
            if kind != "image->image:low-rank":  # factors have no mean: those of the group's first step stay
                before.add(own)

    def shapes(self, kind: str) -> dict[tuple[int, ...], list[tuple[str, int]]]:
        """The places of one relation by frames and grid: each is a node of its own."""
        found: dict[tuple[int, ...], dict[tuple[str, int], None]] = {}
        for place, _ in self.held[kind]:
            site = self.sites[place]
            shape = () if site is None or kind == "text->text" else (site.frames, *site.grid)
            found.setdefault(shape, {})[place] = None
        return {shape: list(own) for shape, own in found.items()}

    def check(self, kind: str, kept: Kept, steps: int) -> None:
        """What was read at a place is read at every step, but of branches that run again. Raises MissingReadings."""
        for ((path, _), branch), found in self.held[kind].items():
            for slot, group in enumerate(kept.slots.slots):
                ran = [step for step in group if step < steps and (step, path.partition(".")[0], branch) in self.ran]
                seen = [held.seen for (own, _), held in found.items() if own == slot] or [0]
                if min(seen) < len(ran) and "#" not in branch:
                    raise MissingReadings(
                        f"site {path} gave no {kind} at one of the steps {ran} (branch {branch}); it did at others. "
                        "Record it alone (sites=...) or switch off what skips it (caches, layer skipping)"
                    )


def nodes(
    reader: RelationReader, kept: Kept, labels: Sequence[str], times: Sequence[float]
) -> Iterator[tuple[str, xr.Dataset]]:
    """(path, dataset) of every relation that was read, one a grid. `times` are the timesteps of the steps that ran.

    Raises MissingReadings.
    """
    for kind in reader.held:
        reader.check(kind, kept, len(times))
        for shape, own in reader.shapes(kind).items():
            flat = shape[1:] if shape and shape[0] == 1 else shape
            name = "/".join(["/relations", KINDS[kind], *(["x".join(map(str, flat))] if flat else [])])
            yield name, _Layout(reader, kept, kind, own).dataset(flat, list(labels), times)


class _Layout:
    """The arrays of one relation on one grid."""

    def __init__(self, reader: RelationReader, kept: Kept, kind: str, places: Sequence[tuple[str, int]]):
        self.kind, self.places, self.reader, self.kept = kind, places, reader, kept
        self.found = {key: held for key, held in reader.held[kind].items() if key[0] in places}
        self.branches = list(dict.fromkeys(branch for _, branch in self.found))
        self.images = sorted({image for held in self.found.values() for _, image in held})

    def dataset(self, shape: tuple[int, ...], labels: list[str], times: Sequence[float]) -> xr.Dataset:
        slots = [slot for slot, group in enumerate(self.kept.slots.slots) if group[0] < len(times)]
        outer = (SITE, STEP, BRANCH, IMAGE)
        plane = ((FRAME,) if len(shape) == 3 else ()) + (Y, X)
        coords: dict[str, Any] = {
            SITE: [self._name(place) for place in self.places],
            **self.kept.clock(times),
            BRANCH: self.branches,
            IMAGE: self.images,
        }
        variables = {}
        for name, rank, axes, sizes in self._variables(plane, shape, labels):
            values = np.full((len(self.places), len(slots), len(self.branches), len(self.images), *sizes), np.nan, "f4")
            self._fill(values, rank, slots, labels)
            variables[name] = ((*outer, *axes), values)
        coords |= {axis: labels for axis in (WORD, "to_word") if any(axis in dims for dims, _ in variables.values())}
        return xr.Dataset(variables, coords=coords, attrs=self._attributes())

    def _variables(
        self, plane: tuple[str, ...], shape: tuple[int, ...], labels: Sequence[str]
    ) -> list[tuple[str, int, tuple[str, ...], tuple[int, ...]]]:
        """(name, which of the held values, its axes, their sizes)."""
        first = next(iter(next(iter(self.found.values())).values())).values
        if self.kind == "text->image":
            return [("share", 0, (WORD, *plane), (len(labels), *shape))]
        if self.kind == "text->text":
            return [("share", 0, (WORD, "to_word"), (len(labels), len(labels)))]
        if self.kind == "frame->frame":
            return [("share", 0, (FRAME, "to_frame"), tuple(first[0].shape))]
        if self.kind.endswith("mean"):
            return [("received", 0, plane, shape)]
        if self.kind.endswith("low-rank"):
            rank = first[0].shape[0]
            axes, sizes = ("rank", *plane), (rank, *shape)
            return [("asking", 0, axes, sizes), ("asked", 1, axes, sizes), ("size", 2, ("rank",), (rank,))]
        return [("share", 0, ("cell", *plane), (first[0].shape[0], *shape))]

    def _fill(self, values: np.ndarray, rank: int, slots: Sequence[int], labels: list[str]) -> None:
        for (place, branch), held in self.found.items():
            for (slot, image), own in held.items():
                first, second = (self.places.index(place), slots.index(slot)), (self.branches.index(branch),)
                target = values[(*first, *second, self.images.index(image))]
                value = (own.values[rank] / own.count).float().cpu().numpy()
                if not self.kind.startswith("text"):
                    target[...] = value.reshape(target.shape)
                    continue
                words = [labels.index(label) for label in self.reader.words[branch, image].labels]
                if self.kind == "text->text":
                    target[np.ix_(words, words)] = value
                else:
                    target[words] = value.reshape(len(words), *target.shape[1:])

    def _name(self, place: tuple[str, int]) -> str:
        site = self.reader.sites[place]
        return place[0] if site is None else site.path

    def _attributes(self) -> dict[str, Any]:
        chosen = self.kind.endswith(("rows", "columns"))
        return {"cells": [list(cell) for cell in self.reader.asked.cells]} if chosen else {}
