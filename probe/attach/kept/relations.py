"""Who attends to whom, beside cells to words: reductions of P that never hold a row for every cell at once.

P = softmax(scale * Q K^T + mask), the mean over heads; rows ask, columns are asked. What needs all rows takes them in
blocks, with the log-sum-exp of each row over all columns; scores are of the type that these sums have.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probe.attach.text.lexicon import Lexicon
from probe.attach.waist import ALL, Call, chunks, log_sum_exp, probabilities, scores, widest
from probe.site import Site

RANK = 4
OVERSAMPLED = 4  # further directions that a random basis needs to be sure of the first ones


@dataclass(frozen=True, slots=True)
class View:
    """One call's rows of one prompt and branch: where picture and text lie in it."""

    place: tuple[str, int]
    branch: str
    step: int
    images: tuple[int, ...]
    site: Site | None
    picture: slice | None  # rows and columns of the cells, where cells ask cells
    first: int  # the text's first row and column
    text: int  # columns of text that take part; 0 where there are no rows of text
    folded: int = 1
    temporal: bool = False


def row_sums(call: Call, lse: Tensor | None, *, exact: bool = False) -> Tensor:
    """[b, h, n]: the log-sum-exp of every row, from the kernel or computed; if `exact` of the widest scores."""
    if exact or lse is None:
        return log_sum_exp(call, ALL, widest(call) if exact else torch.float32)
    return lse


def blocks(call: Call, rows: slice, columns: slice, lse: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(rows, P of these rows [b, r, m] float32) one block after another."""
    for part in chunks(call, rows, columns=columns):
        yield part, torch.exp(scores(call, part, columns, lse.dtype) - lse[..., part, None]).mean(1).float()


def looks(call: Call, rows: Tensor, *, columns: slice = ALL, exact: bool = False) -> Tensor:
    """[b, r, m] float32: what chosen rows give to each column; if `exact` by the widest scores."""
    mask = call.mask
    if mask is not None and mask.shape[-2] > 1:
        mask = mask.index_select(-2, rows)
    part = replace(call, q=call.q.index_select(-2, rows), mask=mask)
    s = scores(part, ALL, ALL, widest(call) if exact else torch.float32)
    return s.softmax(-1).mean(1)[..., columns].float()


def looked_at(call: Call, rows: slice, columns: Tensor, lse: Tensor) -> Tensor:
    """[b, c, n]: what each row gives to chosen columns."""
    return probabilities(call, rows, columns, lse).mean(1).transpose(1, 2)


def received(call: Call, rows: slice, columns: slice, lse: Tensor) -> Tensor:
    """[b, m]: the mean over rows of what each column gets."""
    total, count = None, 0
    for part, p in blocks(call, rows, columns, lse):
        total = p.sum(1) if total is None else total + p.sum(1)
        count += part.stop - part.start
    assert total is not None
    return total / count


def matrix(call: Call, rows: slice, columns: slice, lse: Tensor) -> Tensor:
    """[b, n, m]: P whole."""
    return torch.cat([p for _, p in blocks(call, rows, columns, lse)], dim=1)


def low_rank(call: Call, rows: slice, columns: slice, lse: Tensor, rank: int = RANK) -> tuple[Tensor, Tensor, Tensor]:
    """(U [b, r, n], s [b, r], V [b, r, m]): P is about sum_r s_r u_r v_r^T, by a random basis and one power step.

    Halko, Martinsson & Tropp 2011, "Finding structure with randomness", algorithm 4.4 with q = 1.
    """
    start, stop, _ = columns.indices(call.columns)
    count = min(rank + OVERSAMPLED, stop - start)
    draw = torch.Generator().manual_seed(0)
    omega = torch.randn(stop - start, count, generator=draw).to(call.q.device).expand(call.q.shape[0], -1, -1)
    basis = torch.linalg.qr(_times(call, rows, columns, lse, omega)).Q  # [b, n, k]
    back = _transposed_times(call, rows, columns, lse, basis)  # [b, m, k]
    basis = torch.linalg.qr(_times(call, rows, columns, lse, torch.linalg.qr(back).Q)).Q
    small = _transposed_times(call, rows, columns, lse, basis).transpose(1, 2)  # [b, k, m]
    u, s, v = torch.linalg.svd(small, full_matrices=False)
    return (basis @ u).transpose(1, 2)[:, :rank], s[:, :rank], v[:, :rank]


def _times(call: Call, rows: slice, columns: slice, lse: Tensor, right: Tensor) -> Tensor:
    """P right: [b, n, k]."""
    return torch.cat([p @ right for _, p in blocks(call, rows, columns, lse)], dim=1)


def _transposed_times(call: Call, rows: slice, columns: slice, lse: Tensor, left: Tensor) -> Tensor:
    """P^T left: [b, m, k]."""
    start = rows.indices(call.rows)[0]
    total = None
    for part, p in blocks(call, rows, columns, lse):
        product = p.transpose(1, 2) @ left[:, part.start - start : part.stop - start]
        total = product if total is None else total + product
    assert total is not None
    return total


def of_words(call: Call, lexicon: Lexicon, text: range, picture: slice | None, *, exact: bool = False) -> Tensor:
    """[b, w, n] or [b, w, w]: the mean over a word's tokens of what they give to the picture's cells; without these, to
    each word. `text` are the rows and columns of the text that take part; words without a token there are NaN.
    """
    device = call.q.device
    inside = [column for column in lexicon.columns if column < len(text)]
    place = {column: i for i, column in enumerate(inside)}
    members = [[place[lexicon.columns[m]] for m in own if lexicon.columns[m] in place] for own in lexicon.members]
    sums = torch.zeros(len(inside), len(members), device=device)
    for i, own in enumerate(members):
        sums[own, i] = 1.0
    mean = sums / sums.sum(0)
    columns = torch.tensor(inside, dtype=torch.long, device=device) + text.start
    if picture is not None:
        return mean.T @ looks(call, columns, columns=picture, exact=exact)
    given = looks(call, columns, exact=exact).index_select(-1, columns)
    return mean.T @ given @ torch.where(sums.sum(0) > 0, sums, torch.nan)


def unfolded(values: Tensor, view: View) -> Tensor:
    """[b * f, c, n] -> [b, c, f * n]."""
    return values.unflatten(0, (-1, view.folded)).transpose(1, 2).flatten(2)


def by_frame(call: Call, rows: slice, columns: slice, lse: Tensor, frames: int) -> Tensor:
    """[b, f, f]: the mean over the cells of a frame of what they give to each frame."""
    shares = [p.unflatten(-1, (frames, -1)).sum(-1) for _, p in blocks(call, rows, columns, lse)]
    return torch.cat(shares, dim=1).unflatten(1, (frames, -1)).mean(2)
