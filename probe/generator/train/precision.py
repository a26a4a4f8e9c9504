"""Which precision training runs in: bfloat16 where it pays, which a CPU has to show first."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

SIDE, TRIES = 256, 3  # of the matrices that are multiplied to find out


def autocast(device: str) -> AbstractContextManager[Any]:
    """Mixed precision where it pays."""
    dtype = half(device)
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


@cache
def half(device: str) -> torch.dtype | None:
    """bfloat16 on a GPU, and on a CPU that multiplies in it faster than in float32; else None.

    CPUs with the instructions were about twice as fast; those without them imitate it, some twenty times slower.
    """
    if device == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if device == "cpu" and _seconds(torch.bfloat16) < _seconds(torch.float32) else None


def _seconds(dtype: torch.dtype) -> float:
    """The shortest of a few products, after one to warm up."""
    x = torch.ones(SIDE, SIDE, dtype=dtype)
    return min([_timed(lambda: x @ x) for _ in range(1 + TRIES)][1:])


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
