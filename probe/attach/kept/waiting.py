"""Calls that wait, over several passes where they are small: those of one shape are read as one."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from probe.attach.kept.passes import at_rows
from probe.attach.waist import Call

WAITING = 1 << 23  # bytes of calls that wait: read in one go, small ones take a third less
TOGETHER = 1 << 18  # scores of calls that are read as one: there each operation's start costs more than its work


@dataclass(frozen=True, slots=True)
class At:
    """Whose rows of a call these are."""

    step: int
    key: tuple[str, int]
    images: tuple[int, ...]
    branch: str
    prompt: int
    text: int


Owner = tuple[list[int], At]  # rows of a call's batch, and whose they are
Rows = tuple[Call, Tensor | None, At]  # a call at chosen rows of the batch, its log-sum-exp, and whose it is


@dataclass
class Waiting:
    """The calls that nothing was read of yet."""

    calls: list[tuple[Call, Tensor | None, Sequence[Owner]]] = field(default_factory=list)
    nbytes: int = 0
    _over: tuple[int, int] = (0, 0)  # calls of passes that are over, and their bytes

    def add(self, call: Call, lse: Tensor | None, owners: Sequence[Owner]) -> None:
        """One more call."""
        self.calls.append((call, lse, owners))
        self.nbytes += call.q.nbytes + call.k.nbytes + call.v.nbytes

    def begin_pass(self) -> None:
        """What a pass that broke off has left is dropped."""
        count, self.nbytes = self._over
        del self.calls[count:]

    def end_pass(self) -> None:
        self._over = len(self.calls), self.nbytes

    @property
    def full(self) -> bool:
        """Whether no more should wait."""
        return self.nbytes > WAITING

    def clear(self) -> None:
        self.calls.clear()
        self.nbytes, self._over = 0, (0, 0)

    def each(self, kind: Callable[[At], Hashable]) -> Iterator[tuple[Call, Tensor | None, list[At]]]:
        """The calls, those of one shape and `kind` as one call whose batch is theirs one after another."""
        groups: dict[Hashable, list[Rows]] = {}
        for i, (whole, sums, owners) in enumerate(self.calls):
            for rows, at in owners:
                call, lse = at_rows(whole, sums, rows)
                groups.setdefault(_shape(call, lse, at, kind(at)) or (i, at), []).append((call, lse, at))
        for group in groups.values():
            some = max(1, TOGETHER // _size(group[0][0]))
            for start in range(0, len(group), some):
                part = group[start : start + some]
                yield *_joined(part), [at for _, _, at in part]


def keyed(call: Call) -> Call:
    """The call without its values, of which no word is read."""
    return replace(call, v=call.k[..., :0])


def _size(call: Call) -> int:
    """How many scores a call has."""
    return call.q.shape[0] * call.heads * call.rows * call.columns


def _shape(call: Call, lse: Tensor | None, at: At, kind: Hashable) -> Hashable:
    """What calls that can be read as one have in common; None where a call stays alone."""
    if kind is None or call.mask is not None:
        return None
    whose = at.images, at.branch, at.prompt, at.text
    return call.q.shape, call.k.shape, call.q.dtype, call.q.device, call.scale, call.causal, lse is None, whose, kind


def _joined(part: list[Rows]) -> tuple[Call, Tensor | None]:
    """The calls as one, without values; and its log-sum-exp."""
    first, sums, _ = part[0]
    if len(part) == 1:
        return first, sums
    q, k = torch.cat([call.q for call, _, _ in part]), torch.cat([call.k for call, _, _ in part])
    lse = [own for _, own, _ in part if own is not None]
    return keyed(replace(first, q=q, k=k)), torch.cat(lse) if lse else None
