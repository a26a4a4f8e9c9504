"""What the tests of recording share: a recording that is checked call by call against plain float64 arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import probe
from probe.attach.kept import attention, waiting
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.passes import Pass
from probe.attach.waist import Call
from probe.trace import Trace
from tests import pipelines

WORDS = ("a", "cat", "and", "a#2", "red", "balloon")  # all words of the prompt of the tiny pipelines
SPECIAL = ("<start>", "<end>", "<padding>")


def softmax64(call: Call, rows: slice = slice(None)) -> Tensor:
    """[b, h, n, m] float64: the whole matrix of a call, mask and all, by the definition."""
    k = call.k.double().repeat_interleave(call.heads // call.k.shape[-3], dim=-3)
    s = call.q.double() @ k.transpose(-1, -2) * call.scale
    if call.mask is not None:
        boolean = call.mask.dtype == torch.bool
        s = s.masked_fill(~call.mask, -torch.inf) if boolean else s + call.mask.double()
    return s.softmax(-1)[..., rows, :]


def condition(call: Call) -> float:
    """How much larger than 8 the sums are in which a score of the kernel itself is rounded; at least 1."""
    return max(1.0, float((call.q.abs() @ call.k.abs().transpose(-1, -2)).max()) * call.scale / 8)


@dataclass
class Checks:
    """Largest differences from the definition, by path; and the calls themselves, of the first step."""

    errors: dict[str, float] = field(default_factory=dict)
    calls: list[tuple[Call, Pass]] = field(default_factory=list)
    asked: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)  # by call: storage -> version


def versions(call: Call) -> dict[int, int]:
    """How often each tensor of a call has been written to."""
    return {x.untyped_storage().data_ptr(): x._version for x in (call.q, call.k)}


@contextmanager
def checking() -> Iterator[Checks]:
    """Compare all columns that are read with the explicit softmax of the very same call.

    Each call is read alone here; that it is the same where several are read as one is shown in kept/test_waiting.py.
    """
    checks, columns_of, read = Checks(), attention.probabilities, AttentionReader.read

    def compared(call: Call, rows: slice, columns: Tensor, lse: Tensor | None = None, *, exact: bool = False) -> Tensor:
        p = columns_of(call, rows, columns, lse, exact=exact)
        if call.q.is_meta:  # a survey, before the run
            return p
        asked, read_now = checks.asked[call.path, call.rank], versions(call)
        assert all(asked.get(place, now) == now for place, now in read_now.items())  # calls wait for their pass's end
        error = float((p.double() - softmax64(call, rows)[..., columns]).abs().max()) if p.numel() else 0.0
        checks.errors[call.path] = max(error / condition(call), checks.errors.get(call.path, 0.0))
        return p

    def kept(reader: AttentionReader, call: Call, lse: Tensor | None, current: Pass) -> None:
        if not call.q.is_meta:
            checks.asked[call.path, call.rank] = versions(call)
        if current.step == 0 and not call.q.is_meta:
            checks.calls.append((call, current))
        read(reader, call, lse, current)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "TOGETHER", 1)
        patch.setattr(attention, "probabilities", compared)
        patch.setattr(AttentionReader, "read", kept)
        yield checks


@dataclass(frozen=True)
class Seen:
    """One family, run plain and recorded from the same noise."""

    plain: np.ndarray
    recorded: np.ndarray
    trace: Trace
    checks: Checks


@cache
def seen(family: str, **options: Any) -> Seen:
    """The family with the words of its prompt, all of them, and all else that there is."""
    pipe = pipelines.pipeline(family)
    plain = pipelines.run(pipe, family)
    with checking() as checks, probe.record(pipe, **options) as recording:
        recorded = pipelines.run(pipe, family)
    return Seen(plain, recorded, recording.trace, checks)
