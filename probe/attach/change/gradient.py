"""Maps of words with a gradient: one forward pass of the denoiser that ends at the last site it needs.

A loss over maps does not depend on what comes after them, so the pass is left there by raising a private signal; the
graph up to that point is whole. Weights need no gradient and are switched off meanwhile.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import log2, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.passes import Pass, Place, span
from probe.attach.model.attention import attention_modules
from probe.attach.model.families import Family
from probe.attach.text.text_calls import changing
from probe.attach.waist import ALL, Call, Waist, chunks, log_sum_exp, scores
from probe.errors import NoMatch
from probe.site import matching

CELLS = 256  # the papers' 16 x 16
CHECKPOINTS = {  # what diffusers' blocks go by, and with it what they hold for the way back is made again there
    "gradient_checkpointing": True,
    "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False, preserve_rng_state=False),
}

Key = tuple[str, int]  # path and rank of a call
Grid = tuple[int, int]

_known: "weakref.WeakKeyDictionary[nn.Module, dict[Any, dict[Key, Place]]]" = weakref.WeakKeyDictionary()


class _Enough(Exception):
    """All maps have been read; the rest of the pass is not needed."""


@dataclass
class GradientPass:
    """Runs the denoiser with a gradient to its input. The first pass goes to the end and learns what there is."""

    module: nn.Module
    family: Family
    current: Pass  # of the one row that is run
    places: dict[Key, Place] = field(default_factory=dict)
    grid: Grid = (0, 0)
    words: tuple[Key, ...] = ()  # the sites whose maps of words are read
    cells: tuple[Key, ...] = ()  # those of which it is read what cells give to cells

    def survey(self, given: dict[str, Any]) -> None:
        """Learn where each attention call sits; once for weights and shapes."""
        known = _known.setdefault(self.module, {})
        key = self.current.plane, self.current.text, self.current.texts
        if key not in known:
            known[key] = self._scouted(given)
        self.places = known[key]

    def _scouted(self, given: dict[str, Any]) -> dict[Key, Place]:
        scout = AttentionReader(self.family)

        def read(call: Call, lse: Tensor | None) -> None:
            scout.read(call, lse, self.current)

        with torch.no_grad(), Waist(read, lambda path: True).on(attention_modules(self.module)):
            self.module.forward(**given)
        return scout.places

    def choose(self, wanted: Grid | None, patterns: Sequence[str], *, cells: bool = False) -> None:
        """The sites to read from now on: those of one grid; with `cells`, the self-attention of that grid too.

        A joint attention has one grid at all sites: a coarser one that divides it is the mean over its cells.
        Raises NoMatch, listing the grids or the sites.
        """
        sites = {key: place.site for key, place in self.places.items() if place.site and place.reads}
        named = {key: site for key, site in sites.items() if matching(key[0], patterns)}
        if not named:
            raise NoMatch(f"sites={list(patterns)} names none of the sites with text: {', '.join(p for p, _ in sites)}")
        grids = dict.fromkeys(site.grid for site in named.values())
        self.grid = wanted or min(grids, key=lambda grid: abs(log2(prod(grid) / CELLS)))
        found = next((grid for grid in sorted(grids, key=prod) if _divides(self.grid, grid)), None)
        if found is None:
            listed = ", ".join(f"{h} x {w}" for h, w in grids)
            raise NoMatch(
                f"no attention to the text has a grid of {wanted}; this model has {listed} (resolution=(rows, columns))"
            )
        self.words = tuple(key for key, site in named.items() if site.grid == found)
        every = {key: place.site for key, place in self.places.items() if cells and place.site}
        self.cells = tuple(key for key, site in every.items() if site.kind != "cross" and site.grid == found)

    def maps(self, given: dict[str, Any], columns: slice) -> tuple[Tensor, Tensor | None]:
        """(A [y, x, token], S [cell, y, x] or None), means over the chosen sites and their heads, with a graph.

        `columns` are those of the text that are read; in a joint attention A is the share among them.
        """
        words: dict[Key, Tensor] = {}
        cells: dict[Key, Tensor] = {}

        def change(call: Call) -> Tensor | None:
            key = call.path, call.rank
            if key in self.words:
                words[key] = self._words(call, columns)
            if key in self.cells:
                cells[key] = self._cells(call)
            if len(words) == len(self.words) and len(cells) == len(self.cells):
                raise _Enough
            return None

        with changing(self.module, change), suppress(_Enough):
            self.module.forward(**given)
        A = torch.stack(list(words.values())).mean(0)  # [cells, token]
        joint = any(self._site(key).kind == "joint" for key in self.words)
        A = A / A.sum(-1, keepdim=True).clamp(min=1e-12) if joint else A
        S = self._both(torch.stack(list(cells.values())).mean(0)) if cells else None
        return self._pooled(A), S

    def _site(self, key: Key) -> Any:
        return self.places[key].site

    @property
    def _own(self) -> Grid:
        """The grid of the sites themselves."""
        return self._site(self.words[0]).grid

    def _pooled(self, A: Tensor) -> Tensor:
        """[cell, token] -> [y, x, token] at the grid of the loss: means over blocks of cells."""
        planes = A.unflatten(0, self._own)
        if self._own == self.grid:
            return planes
        return F.adaptive_avg_pool2d(planes.movedim(-1, 0), self.grid).movedim(0, -1)

    def _both(self, S: Tensor) -> Tensor:
        """[cell, cell] -> [cell, y, x] at the grid of the loss."""
        return self._pooled(self._pooled(S).flatten(0, 1).T).movedim(-1, 0)

    def _span(self, call: Call) -> tuple[slice, int]:
        return span(call, self._site((call.path, call.rank)), self.family, self.current.texts[0])

    def _words(self, call: Call, columns: slice) -> Tensor:
        """[cell, token]: the mean over heads of what cells give to tokens."""
        rows, first = self._span(call)
        length = self.current.texts[0]
        if call.columns == length:
            return scores(call, rows, ALL).softmax(-1)[0, ..., columns].mean(0)
        chosen = torch.arange(length, device=call.q.device)[columns] + first
        return torch.exp(scores(call, rows, chosen) - _lse(call, rows)[..., None])[0].mean(0)

    def _cells(self, call: Call) -> Tensor:
        """[cell, cell]: the mean over heads of what cells give to cells."""
        rows, _ = self._span(call)
        return scores(call, rows, rows).softmax(-1)[0].mean(0)


def _lse(call: Call, rows: slice) -> Tensor:
    """`log_sum_exp` with a gradient; where the matrix is large, its chunks are made again on the way back."""
    parts = chunks(call, rows)
    if len(parts) == 1:
        return log_sum_exp(call, rows)
    found = [checkpoint(log_sum_exp, call, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat(found, dim=-1)


def _divides(coarse: Grid, fine: Grid) -> bool:
    return all(own % asked == 0 for asked, own in zip(coarse, fine, strict=True)) and _same_share(coarse, fine)


def _same_share(coarse: Grid, fine: Grid) -> bool:
    return coarse[0] * fine[1] == coarse[1] * fine[0]


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """Parameters ask for no gradient inside; each gets its own setting back."""
    borrowed = [p for p in module.parameters() if p.requires_grad]
    try:
        for parameter in borrowed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in borrowed:
            parameter.requires_grad_(True)


@contextmanager
def checkpointed(module: nn.Module) -> Iterator[None]:
    """Inside, a denoiser's blocks keep nothing of themselves for the way back, and run again there."""
    parts = [part for part in module.modules() if hasattr(part, "gradient_checkpointing")]
    before = [{name: vars(part)[name] for name in CHECKPOINTS if name in vars(part)} for part in parts]
    try:
        for part in parts:
            vars(part).update(CHECKPOINTS)
        yield
    finally:
        for part, own in zip(parts, before, strict=True):
            for name in CHECKPOINTS:
                vars(part).pop(name, None)
            vars(part).update(own)
