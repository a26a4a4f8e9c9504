"""Reads the attention that each cell gives to each word, from the calls that the waist shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probe.attach.families import Family, grid_of
from probe.attach.waist import Call, probabilities
from probe.axes import Branch, Kind
from probe.errors import MissingReadings
from probe.site import Site


@dataclass(frozen=True, slots=True)
class Row:
    """What one row of the denoiser's batch is: its branch, its picture, and which prompt it was given."""

    branch: Branch
    image: int
    prompt: int


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass of the denoiser: the step it belongs to and the shapes that decide the layout."""

    step: int
    rows: tuple[Row, ...]
    height: int  # of the latents
    width: int
    text: int  # length of the sequence of text states


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Which columns make which word, for one prompt: maps = P[:, columns] @ weights + offset."""

    columns: tuple[int, ...]
    labels: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]  # per label: positions in `columns`
    rest: str | None = None  # the label of what all columns leave over (padding)

    def weights(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """([t, w], [w]): sums over each word's columns; the rest is one minus the sum of all."""
        w = torch.zeros(len(self.columns), len(self.labels))
        offset = torch.zeros(len(self.labels))
        for i, (label, members) in enumerate(zip(self.labels, self.members, strict=True)):
            w[list(members), i] = 1.0
            if label == self.rest:
                w[:, i], offset[i] = -1.0, 1.0
        return w.to(device), offset.to(device)


@dataclass(slots=True)
class Place:
    """Where one attention call sits: its site, its picture rows and the column of its first text key."""

    site: Site
    rows: slice
    first: int


@dataclass
class AttentionReader:
    """Collects [image, word, cells] per step, site and branch, on the model's device."""

    family: Family
    lexicons: Sequence[Lexicon]
    branches: tuple[str, ...] = ("cond",)
    places: dict[tuple[str, int], Place | None] = field(default_factory=dict)
    maps: dict[tuple[int, tuple[str, int], str], dict[int, Tensor]] = field(default_factory=dict)
    _weights: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def read(self, call: Call, lse: Tensor | None, current: Pass) -> None:
        """Take one call's columns."""
        key = (call.path, call.rank)
        if key not in self.places:
            self.places[key] = self._place(call, current)
        place = self.places[key]
        if place is None or place.site.kind == "self":
            return
        for (branch, prompt), rows in _groups(current.rows, self.branches).items():
            part, part_lse = _batch(call, lse, rows)
            maps = self._maps(part, part_lse, place, prompt)
            kept = self.maps.setdefault((current.step, key, branch), {})
            for row, plane in zip(rows, maps, strict=True):
                kept[current.rows[row].image] = plane

    def _maps(self, call: Call, lse: Tensor | None, place: Place, prompt: int) -> Tensor:
        """[b, w, n]: mean over heads of the probability that each cell gives to each word."""
        columns, weights, offset = self._columns(prompt, call.q.device)
        p = probabilities(call, place.rows, columns + place.first, lse)  # [b, h, n, t]
        return (p.mean(1) @ weights + offset).transpose(1, 2).detach()

    def _columns(self, prompt: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if prompt not in self._weights:
            lexicon = self.lexicons[prompt]
            self._weights[prompt] = (torch.tensor(lexicon.columns, device=device), *lexicon.weights(device))
        return self._weights[prompt]

    def _place(self, call: Call, current: Pass) -> Place | None:
        """Tell cross, joint and self-attention apart by their shapes; None for what is none of them."""
        rows, columns, text = call.rows, call.columns, current.text
        if rows == columns and _grid(rows - text, self.family, current) and self.family.text != "cross":
            cells = slice(0, rows - text) if self.family.text == "last" else slice(text, rows)
            first = rows - text if self.family.text == "last" else 0
            return self._site(call, "joint", rows - text, cells, first, current)
        if columns == text and call.rank == 0 and not (rows == columns and call.path.endswith("attn1")):
            return self._site(call, "cross", rows, slice(0, rows), 0, current)
        if rows == columns:
            return self._site(call, "self", rows, slice(0, rows), 0, current)
        return None

    def _site(self, call: Call, kind: Kind, cells: int, rows: slice, first: int, current: Pass) -> Place | None:
        grid = _grid(cells, self.family, current)
        if grid is None:
            return None
        path = call.path if call.rank == 0 else f"{call.path}#{call.rank + 1}"
        return Place(Site(path=path, kind=kind, grid=grid, heads=call.heads, order=len(self.places)), rows, first)

    def sites(self) -> tuple[Site, ...]:
        """All sites with words, in the order in which they ran."""
        return tuple(p.site for p in self.places.values() if p is not None and p.site.kind != "self")

    def check(self, ran: set[str], current: Pass) -> None:
        """Every attention module that ran must have shown at least one call: coverage is judged by readings."""
        silent = sorted(ran - {path for path, _ in self.places})
        if silent:
            raise MissingReadings(
                f"{len(silent)} of {len(ran)} attention modules gave no reading at step {current.step}: "
                f"{', '.join(silent[:4])}. They do not use torch's fused attention: switch off attention slicing, "
                "xFormers or Sage attention (pipe.disable_attention_slicing(), "
                "pipe.disable_xformers_memory_efficient_attention()) while recording"
            )


def _grid(cells: int, family: Family, current: Pass) -> tuple[int, int] | None:
    patch = family.patch
    return grid_of(cells, -(-current.height // patch), -(-current.width // patch)) if cells > 0 else None


def _groups(rows: Sequence[Row], branches: tuple[str, ...]) -> Mapping[tuple[str, int], list[int]]:
    """(branch, prompt) -> rows of the batch, for the branches that are wanted."""
    groups: dict[tuple[str, int], list[int]] = {}
    for i, row in enumerate(rows):
        if row.branch in branches:
            groups.setdefault((row.branch, row.prompt), []).append(i)
    return groups


def _batch(call: Call, lse: Tensor | None, rows: list[int]) -> tuple[Call, Tensor | None]:
    """The call at chosen rows of the batch; neighbouring rows are a view, not a copy."""
    if len(rows) == call.q.shape[0]:
        return call, lse
    chosen = slice(rows[0], rows[-1] + 1) if rows == list(range(rows[0], rows[-1] + 1)) else rows
    mask = call.mask[chosen] if call.mask is not None and call.mask.shape[0] > 1 and call.mask.ndim == 4 else call.mask
    part = Call(
        call.path,
        call.rank,
        call.q[chosen],
        call.k[chosen],
        call.v[chosen],
        mask,
        call.scale,
        call.causal,
        call.dropout,
    )
    return part, None if lse is None else lse[chosen]
