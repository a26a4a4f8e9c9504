"""Concepts: where the picture says a word, whether or not the prompt says it, and without the picture noticing.

The denoiser runs aside on two rows: the picture's own, and one whose text is the concepts. In the second row the
concepts ask the first row's cells (and one another), while its own cells are given the first row's outputs, so no cell
ever attends to a concept and both rows hold the same picture. A score is the inner product of what a cell and a concept
got out of attention, over all heads; in a cross-attention, where text does not ask, a concept's own value stands for
what it would get. After Helbling et al., "ConceptAttention" (2025), for joint attention; cross-attention is our own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.asked.rerun import Beside, Reader, check_text
from probe.attach.model.families import grid_of
from probe.attach.relevance.tape import values
from probe.attach.text.encode import columns, encode
from probe.attach.text.text_calls import Layout, changing, row, unread
from probe.attach.waist import Call, plain
from probe.axes import FRAME, IMAGE, SITE, STEP, WORD, X, Y
from probe.errors import BadInput
from probe.words import Prompt

Place = tuple[int, int]  # step, image
Grid = tuple[int, ...]  # height, width; of films frame, height, width


class Concepts(Inquiry):
    """Where each concept is said (`probe.concept_attention` reads the maps).

    `words`: concepts, in the prompt or not, to set against the prompt's content words, which always take part.
    """

    words: tuple[str, ...] = ()

    def begin(self, scene: Scene) -> Answer:
        check_text(scene, "Concepts")
        said = [word.text for prompt in scene.prompts for word in prompt.words if word.content]
        words = list(dict.fromkeys((*said, *self.words)))
        if len(words) < 2:
            raise BadInput(f"concepts compete, and there is only {words}; add more: Concepts(words=('background',))")
        return ConceptReader(scene, self.wants, words)


@dataclass
class ConceptReader(Reader):
    """Scores [concept, y, x] by grid, site, step and picture."""

    words: Sequence[str]
    scores: dict[Grid, dict[str, dict[Place, Tensor]]] = field(default_factory=dict)
    _tokens: list[Tensor] = field(default_factory=list)  # by concept: its text states [t, c]

    @torch.no_grad()
    def look(self, beside: Beside, step: int) -> None:
        states, used = self._row(beside)
        stream = Stream(Layout(self.scene.family, beside.plane, len(states)), used)
        with changing(beside.module, stream.change):
            replace(beside, leads={}).predict(torch.stack([beside.states, states]))  # led as the picture is, both
        if not stream.scores:
            raise unread(stream.layout)
        for (path, grid), score in stream.scores.items():
            self.scores.setdefault(grid, {}).setdefault(self.site(beside, path), {})[step, beside.row.image] = score

    def _row(self, beside: Beside) -> tuple[Tensor, list[list[int]]]:
        """Text states [t, c] that begin with the concepts, and the columns of each."""
        if not self._tokens:
            like = self.scene.prompts[beside.row.prompt]
            self._tokens = [self._encoded(word, like).to(beside.states) for word in self.words]
        states, filled = torch.zeros_like(beside.states), torch.cat(self._tokens)
        if len(filled) > len(states):
            raise BadInput(
                f"{len(self.words)} concepts have {len(filled)} tokens, more than the {len(states)} of the text"
            )
        states[: len(filled)] = filled
        ends = np.cumsum([len(tokens) for tokens in self._tokens])
        return states, [list(range(end - len(own), end)) for own, end in zip(self._tokens, ends, strict=True)]

    def _encoded(self, word: str, like: Prompt) -> Tensor:
        """The states of a word that is encoded alone."""
        text = encode(self.scene, word, like=like)
        return text.states[list(columns(text.prompt, self.scene.family, word))]

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """/concepts/{H}x{W}: score (site, step, image, word, y, x); /concepts/{F}x{H}x{W} with frames."""
        return {f"/concepts/{'x'.join(map(str, grid))}": self._node(grid) for grid in self.scores}

    def _node(self, grid: Grid) -> xr.Dataset:
        sites = self.scores[grid]
        places = sorted({place for held in sites.values() for place in held})
        steps, images = (sorted({place[i] for place in places}) for i in (0, 1))
        found = np.full((len(sites), len(steps), len(images), len(self.words), *grid), np.nan, np.float32)
        for i, held in enumerate(sites.values()):
            for (step, image), score in held.items():
                found[i, steps.index(step), images.index(image)] = score.float().cpu().numpy()
        attributes = {"units": "inner product of attention outputs"}
        coords = {SITE: list(sites), STEP: steps, IMAGE: images, WORD: list(self.words)}
        axes = (SITE, STEP, IMAGE, WORD, *(FRAME, Y, X)[-len(grid) :])
        return xr.Dataset({"score": (axes, found, attributes)}, coords=coords)


@dataclass
class Stream:
    """The attention of two rows, the picture's and the concepts'. `used` are the columns of each concept."""

    layout: Layout
    used: Sequence[Sequence[int]]
    scores: dict[tuple[str, Grid], Tensor] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How many columns at the front of the second row's text are concepts'."""
        return self.used[-1][-1] + 1

    def change(self, call: Call) -> Tensor | None:
        """The outputs of both rows; None where each may go on by itself."""
        kind = self.layout.kind(call)
        if kind is None:
            return None
        out = plain(row(call, 0))
        if kind == "cross":
            self._note(call.path, out, values(call)[1:, :, : self.taken])
            return torch.cat([out, out])
        cells, first = self.layout.spans(call)
        asking = slice(first, first + self.taken)
        heard = plain(self._aside(call, asking, cells))
        other = out.clone()
        other[..., asking, :] = heard
        if kind == "joint":
            self._note(call.path, out[..., cells, :], heard)
        return torch.cat([out, other])

    def _aside(self, call: Call, asking: slice, cells: slice) -> Call:
        """The concepts' own call: they ask one another, and the first row's cells."""
        k, v = (torch.cat([x[1:, :, asking], x[:1, :, cells]], dim=2) for x in (call.k, call.v))
        return replace(call, q=call.q[1:, :, asking], k=k, v=v, mask=None, causal=False)

    def _note(self, path: str, cells: Tensor, concepts: Tensor) -> None:
        """<o_cell, o_concept> [concept, y, x], the mean over a concept's tokens; of a film [concept, frame, y, x]."""
        o, c = (x[0].transpose(0, 1).flatten(1).float() for x in (cells, concepts))  # [n, h * d]
        means = torch.stack([c[list(own)].mean(0) for own in self.used])
        plane = self.layout.plane
        grid = grid_of(len(o) // plane.frames, plane.height, plane.width)
        if grid is not None and len(o) == plane.frames * grid[0] * grid[1]:
            grid = grid if plane.frames == 1 else (plane.frames, *grid)
            self.scores[path, grid] = (means @ o.T).unflatten(1, grid)
