"""Relevancy through a denoiser: which word each cell's output rests on, carried through all its attention.

The rules are those of generic attention explainability (Chefer, Gur, Wolf 2021) with
A-bar = mean_heads(max(0, grad_A * A)), carried over a U-Net's changes of resolution and its skip connections, and over
joint blocks. Neither A nor its gradient is kept: for O = A V with G = dy/dO, grad_A = G V^T exactly, so both are made
again in chunks of queries, and memory stays O(cells * (width + tokens)).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.attach.change.gradient import without_weight_gradients
from probe.attach.model.families import Family
from probe.attach.relevance.tape import Event, Tape, taping, values
from probe.attach.waist import ALL, Call, chunks, scores
from probe.errors import BadInput, UnknownFamily

SELF_CELLS = 4096  # cells up to which the full rule keeps a square of them

Target = Callable[[Tensor], Tensor]
Through = Callable[[Tensor], Tensor]  # dy/dE [t, c] of the text states -> R-bar_tt [t, t]
Kind = Literal["cross", "self", "joint", "text", "other"]


@dataclass(frozen=True)
class Seat:
    """What one row of a denoiser's arguments holds: its latents and text states by name, and the grid of its cells."""

    sample: str
    states: str
    grid: tuple[int, int]
    family: Family
    text: int  # columns of text states

    def kind(self, call: Call, cells: int) -> Kind:
        """What a call attends from and to, where the pass is at so many cells. Raises UnknownFamily if neither fits."""
        rows, columns, joint = call.rows, call.columns, self.family.joint
        if call.q.shape[0] != 1:
            raise self._unknown(call, "of several frames")
        if joint and rows == columns == self.family.total(cells, self.text):
            return "joint"
        if rows == cells and columns == self.text and not (rows == columns and (joint or call.path.endswith("attn1"))):
            return "cross"
        if rows == columns == cells:
            return "self"
        if joint and rows == columns == self.text:
            return "text"
        if call.rank or (joint and rows in (self.text, self.family.filled(self.text))):
            return "other"  # of an adapter, or among the text alone
        raise self._unknown(call, f"where the picture has {cells} cells and the text {self.text} columns")

    def _unknown(self, call: Call, why: str) -> UnknownFamily:
        return UnknownFamily(
            f"relevancy cannot follow {call.path} of a {self.family.name} layout: attention of {call.rows} rows to "
            f"{call.columns} columns, {why}. It follows U-Nets (SD, SDXL) and joint blocks (SD3, FLUX) of pictures; "
            "use probe.attention for this model instead"
        )


@dataclass(frozen=True)
class Field:
    """Relevance where the pass is now: R [cell, token], R_tt [state, token], and R_ii - 1 [cell, cell] or None."""

    grid: tuple[int, int]
    R: Tensor
    text: Tensor
    own: Tensor | None = None

    def resized(self, grid: tuple[int, int]) -> "Field":
        """On another grid. Of R_ii - 1 the rows go as R does, and the columns keep their sums."""
        own = self.own
        if own is not None:
            rows = resized(own, self.grid, grid)
            own = resized(rows.T, self.grid, grid).T * (prod(self.grid) / prod(grid))
        return Field(grid, resized(self.R, self.grid, grid), self.text, own)

    def joined(self, skip: "Field", m: float, m_skip: float) -> "Field":
        """The Add rule: the mean of both branches, weighted by what each contributes."""
        own = None if self.own is None or skip.own is None else joined(self.own, skip.own, m, m_skip)
        return replace(self, R=joined(self.R, skip.R, m, m_skip), own=own)


def weighted(call: Call, G: Tensor, rows: slice) -> Tensor:
    """A-bar [n, m] = mean_heads(max(0, grad_A * A)) for a chunk of queries, with grad_A = G V^T."""
    A = scores(call, rows, ALL).softmax(-1)  # [1, h, n, m]
    grad_A = G[..., rows, :].float() @ values(call).float().transpose(-1, -2)
    return A.mul_(grad_A).clamp_(min=0).mean(1)[0]


def carried(call: Call, G: Tensor, R: Tensor) -> Tensor:
    """A-bar R [n, t], chunk by chunk."""
    return torch.cat([weighted(call, G, part) @ R for part in chunks(call, ALL)])


def normalised(R_hat: Tensor) -> Tensor:
    """Rows that sum to 1, or to 0 where nothing is relevant (rules 8 and 9, without the identity)."""
    sums = R_hat.sum(1, keepdim=True)
    return torch.where(sums > 0, R_hat / sums.clamp(min=torch.finfo(R_hat.dtype).tiny), 0.0)


@torch.no_grad()
def propagate(events: Sequence[Event], gradients: Sequence[Tensor | None], field: Field, seat: Seat) -> Field:
    """Carry the relevance from the input to the output, event by event.

    cross   R <- R + A-bar R_tt          self   R <- R + A-bar R          text   R_tt <- R_tt + A-bar R_tt
    joint   [R_tt; R] <- [R_tt; R] + A-bar [R_tt; R], in the order of the sequence
    skips   R <- (m_up R_up + m_skip R_skip) / (m_up + m_skip), m = sum |gradient * activation| of each branch
    With R_ii: self also R_ii <- R_ii + A-bar R_ii, and cross R <- R + R-bar_ii^T A-bar R_tt.
    """
    given, kept = iter(gradients), list[Field]()
    for event in events:
        if event.kind == "push":
            kept.append(field)
        elif event.kind == "resize":
            field = field.resized(event.grid)
        elif event.kind == "pop":
            field = field.joined(kept.pop(), *_shares(event, next(given)))
        else:
            field = _attended(event.call, next(given), field, seat)
    return field


def _attended(call: Call | None, G: Tensor | None, field: Field, seat: Seat) -> Field:
    """One attention call; without a gradient the target does not depend on it."""
    assert call is not None
    kind = seat.kind(call, len(field.R))
    if G is None or kind == "other":
        return field
    return RULES[kind](call, G, field, seat)


def _cross(call: Call, G: Tensor, field: Field, seat: Seat) -> Field:
    more = carried(call, G, field.text)
    if field.own is not None:
        more = more + normalised(field.own).T @ more
    return replace(field, R=field.R + more)


def _self(call: Call, G: Tensor, field: Field, seat: Seat) -> Field:
    if field.own is None:
        return replace(field, R=field.R + carried(call, G, field.R))
    whole = field.own + torch.eye(len(field.own), device=field.own.device)
    more = carried(call, G, torch.cat([field.R, whole], 1))
    tokens = field.R.shape[1]
    return replace(field, R=field.R + more[:, :tokens], own=field.own + more[:, tokens:])


def _joint(call: Call, G: Tensor, field: Field, seat: Seat) -> Field:
    picture, first = seat.family.starts(len(field.R), seat.text)
    cells, text = slice(picture, picture + len(field.R)), slice(first, first + seat.text)
    Z = torch.zeros(call.columns, field.R.shape[1], device=field.R.device)
    Z[cells], Z[text] = field.R, field.text
    Z = Z + carried(call, G, Z)
    return replace(field, R=Z[cells], text=Z[text])


def _text(call: Call, G: Tensor, field: Field, seat: Seat) -> Field:
    return replace(field, text=field.text + carried(call, G, field.text))


RULES: dict[Kind, Callable[[Call, Tensor, Field, Seat], Field]] = {
    "cross": _cross,
    "self": _self,
    "joint": _joint,
    "text": _text,
}


def _shares(event: Event, G: Tensor | None) -> tuple[float, float]:
    """How much the joined plane and the skip behind it contribute."""
    assert event.tensor is not None
    if G is None:
        return 1.0, 0.0
    weight = (G * event.tensor).abs().float().sum((0, 2, 3))  # [channel]; the skip's channels come last
    up = len(weight) - event.channels
    return float(weight[:up].sum()), float(weight[up:].sum())


def joined(R: Tensor, skip: Tensor, m: float, m_skip: float) -> Tensor:
    """The mean of two, weighted; the first where both weights are 0."""
    return R if m + m_skip == 0 else (m * R + m_skip * skip) / (m + m_skip)


def resized(R: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """[cell, token] on another grid: the mean of the cells that are merged, or copies of the cell that is split."""
    plane = R.T.reshape(1, -1, *grid)
    down = target[0] < grid[0]
    plane = F.adaptive_avg_pool2d(plane, target) if down else F.interpolate(plane, target, mode="nearest")
    return plane.reshape(R.shape[1], -1).T


def relevance(
    module: nn.Module,
    given: dict[str, Any],
    *,
    seat: Seat,
    target: Target,
    through: Through | None = None,
    self_rule: bool = False,
) -> Tensor:
    """[cell, token]: what each cell of the denoiser's output rests on, for `target` of that output.

    `given`: one row of the denoiser's arguments. Tokens are the text states, or with `through` what these rest on in
    turn. `self_rule` keeps R_ii too. Raises UnknownFamily for attention that is neither cross, self nor joint.
    """
    cells, tape = prod(seat.grid), Tape()
    if self_rule and cells > SELF_CELLS:
        raise BadInput(
            f"self_rule keeps relevance between all pairs of cells, for at most {SELF_CELLS} of them; "
            f"here are {seat.grid[0]} x {seat.grid[1]}: leave it out, or make a smaller picture"
        )
    x, E = (given[name].detach().requires_grad_(True) for name in (seat.sample, seat.states))
    with torch.enable_grad(), without_weight_gradients(module), taping(module, tape):
        output = module.forward(**(given | {seat.sample: x, seat.states: E}))
        value = output[0] if isinstance(output, tuple | list) else output.sample
        *found, grad_E = torch.autograd.grad(target(value), [*tape.tensors(), E], allow_unused=True)
    text = torch.eye(seat.text, device=x.device)
    if through is not None and grad_E is not None:
        text = through(grad_E[0]).to(x.device)
    own = torch.zeros(cells, cells, device=x.device) if self_rule and not seat.family.joint else None
    start = Field(seat.grid, torch.zeros(cells, seat.text, device=x.device), text, own)
    return propagate(tape.events, found, start, seat).R
