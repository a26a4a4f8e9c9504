"""A forward pass of a denoiser, and where the calls of its attention modules sit in it."""

from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from probe.attach.model.families import Family
from probe.attach.model.layout import Plane
from probe.attach.text.rows import Row
from probe.attach.waist import Call
from probe.site import Site

Text = tuple[str, int, int]  # branch, prompt, and the length of its text
Shared = tuple[Text, tuple[int, ...], list[int]]  # whose, of which pictures, and their entries of the batch


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass of a denoiser: the step it belongs to and the shapes that decide the layout."""

    denoiser: str
    step: int
    rows: tuple[Row, ...]
    plane: Plane
    text: int  # length of the sequence of text states
    texts: tuple[int, ...]  # how much of it takes part, row by row
    others: tuple[int, ...] = ()  # lengths of the sequences that the denoiser is given beside text and latents
    parts: tuple[int, ...] = ()  # lengths of the sequences that make up the text
    attended: tuple[int, ...] = ()  # by its mask, how much of the text is no padding, where that is the head of it


@dataclass(frozen=True, slots=True)
class Place:
    """Where the calls of one module sit: their site, and whether their keys hold the text."""

    site: Site | None  # None: no cells of the picture ask here
    reads: bool  # whether cells ask the text
    folded: int = 1  # frames that lie in the batch
    temporal: bool = False  # frames ask frames, cell by cell


def span(call: Call, site: Site, family: Family, text: int) -> tuple[slice, int]:
    """(the picture's rows, the text's first column) of a call with `text` columns of text."""
    if site.kind != "joint":
        return slice(0, call.rows), call.columns - text if family.behind else 0
    cells = site.frames * prod(site.grid)
    picture, first = family.starts(call.columns - text if family.canvas else cells, text)
    return slice(picture, picture + cells), first


def shared(current: Pass, branches: tuple[str, ...], first: int, each: int, count: int) -> list[Shared]:
    """Which entries of a call are whose: `count` rows from `first`, of `each` entries, for the wanted branches."""
    groups: dict[Text, list[int]] = {}
    for i in range(first, min(first + count, len(current.rows))):
        row = current.rows[i]
        if row.branch in branches:
            groups.setdefault((row.branch, row.prompt, current.texts[i]), []).append(i)
    found: list[Shared] = []
    for whose, rows in groups.items():
        entries = [(i - first) * each + j for i in rows for j in range(each)]
        found.append((whose, tuple(current.rows[i].image for i in rows), entries))
    return found


def at_rows(call: Call, lse: Tensor | None, rows: list[int]) -> tuple[Call, Tensor | None]:
    """The call at chosen rows of the batch; neighbouring rows are a view, not a copy."""
    if len(rows) == call.q.shape[0]:
        return call, lse
    chosen = slice(rows[0], rows[-1] + 1) if rows == list(range(rows[0], rows[-1] + 1)) else rows
    mask = call.mask[chosen] if call.mask is not None and call.mask.shape[0] > 1 and call.mask.ndim == 4 else call.mask
    part = replace(call, q=call.q[chosen], k=call.k[chosen], v=call.v[chosen], mask=mask)
    return part, None if lse is None else lse[chosen]
