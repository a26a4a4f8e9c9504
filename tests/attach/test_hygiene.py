"""Nothing is left behind, whatever breaks and wherever; threads do not mix; no picture changes; no N x N is made."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import probe
from probe.attach import takes as takes_room
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.budget import Budget
from probe.attach.kept.guidance import GuidanceReader
from probe.attach.recording import Recording
from probe.attach.take import Take
from probe.attach.text.hearing import Listener
from probe.attach.waist import Waist
from tests import pipelines
from tests.attach.looking import checking
from tests.fingerprint import fingerprint

SMALL: dict[str, Any] = {"height": 32, "width": 48}
HOOKS = ("_start", "_encode", "_prepare", "_begin_pass", "_read", "_end_pass", "_step", "_show", "_finish")
PLACES = (
    *((Recording, name) for name in (*HOOKS, "_attach", "_stand_in")),
    *((Waist, name) for name in ("hooks", "enter", "leave")),
    *((Take, name) for name in ("read_prompts", "begin_pass", "end_pass", "stepped", "ended_step")),
    *((Budget, name) for name in ("before", "after")),
    (AttentionReader, "read"),
    (AttentionReader, "check"),
    (GuidanceReader, "stepped"),
    (Listener, "hooks"),
    (Listener, "take"),
    (nn.Module, "register_forward_pre_hook"),
    (nn.Module, "register_forward_hook"),
)


class Fault(RuntimeError):
    """An injected error."""


@contextmanager
def faults(at: int, error: type[BaseException], late: bool) -> Iterator[list[int]]:
    """Raise at the `at`-th call of what recording runs, before or after the call has done its work."""
    count = [0]

    def faulty(original: Callable[..., Any], late: bool = late) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            mine, count[0] = count[0], count[0] + 1
            if mine == at and not late:
                raise error("injected")
            result = original(*args, **kwargs)
            if mine == at:
                raise error("injected")
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in PLACES:
            patch.setattr(owner, name, faulty(getattr(owner, name), late and owner is not nn.Module))
        patch.setattr(takes_room, "assemble", faulty(takes_room.assemble))
        yield count


@dataclass(frozen=True)
class Before:
    """A pipeline, its picture, its fingerprint, and how many calls a recording of it makes."""

    pipe: Any
    picture: np.ndarray
    marks: dict[str, object]
    calls: int

    def changed(self) -> set[str]:
        """What is no longer as it was."""
        after = fingerprint(self.pipe)
        return {name for name, mark in self.marks.items() if mark != after[name]}


@cache
def untouched(family: str = "sd1") -> Before:
    """The pipeline that the faults are injected into."""
    pipe, size = pipelines.load(family), SMALL if family == "sd1" else {}
    pipelines.run(pipe, family, **size)  # what the pipeline itself sets on its first run is not ours
    plain, marks = pipelines.run(pipe, family, **size), fingerprint(pipe)
    with faults(-1, Fault, False) as count, probe.record(pipe):
        pipelines.run(pipe, family, **size)
    return Before(pipe, plain, marks, count[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=200, derandomize=True, phases=[Phase.generate])
@given(share=st.floats(0, 1, exclude_max=True), error=st.sampled_from([Fault, KeyboardInterrupt]), late=st.booleans())
def test_two_hundred_faults_leave_nothing_behind(share: float, error: type[BaseException], late: bool):
    before = untouched()
    at = int(share * before.calls)
    with pytest.raises(error, match="injected"), faults(at, error, late), probe.record(before.pipe):
        pipelines.run(before.pipe, "sd1", **SMALL)
    assert before.changed() == set()


def test_the_picture_after_all_faults_is_the_same():
    before = untouched()
    assert before.calls > 100
    for at in range(0, before.calls, before.calls // 10):
        with pytest.raises(Fault), faults(at, Fault, True), probe.record(before.pipe):
            pipelines.run(before.pipe, "sd1", **SMALL)
        assert np.array_equal(pipelines.run(before.pipe, "sd1", **SMALL), before.picture)
    assert before.changed() <= {"random"}  # other tests draw from the same generators in between


@pytest.mark.parametrize("family", ["flux1", "sd3", "sdxl", "wan", "sd1_ip_adapter", "sd1_lora"])
def test_other_families_are_given_back_too(family: str):
    before = untouched(family)
    assert before.changed() == set()
    for turn, at in enumerate(range(3, before.calls, before.calls // 8)):
        error, late = (Fault, KeyboardInterrupt)[turn % 2], turn % 4 > 1
        with pytest.raises(error, match="injected"), faults(at, error, late), probe.record(before.pipe):
            pipelines.run(before.pipe, family)
        assert before.changed() == set()


# Threads


@pytest.fixture(scope="module")
def pipe() -> Any:
    return pipelines.load("sd1")


def twin(pipe: Any) -> Any:
    """Another pipeline with the same weights, and its own of what a call writes to: fast tokenizers keep how to pad."""
    own = {
        "scheduler": type(pipe.scheduler).from_config(pipe.scheduler.config),
        "tokenizer": copy.deepcopy(pipe.tokenizer),
    }
    other = type(pipe)(**pipe.components | own, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    return other


PROMPTS = ("a cat and a red balloon", "a blue car and a dog")


def solo(pipe: Any, prompt: str, record: bool = True, **options: Any) -> tuple[np.ndarray, Any]:
    if not record:
        return pipelines.run(pipe, "sd1", prompt=prompt, **SMALL), None
    with probe.record(pipe, **options) as recording:
        picture = pipelines.run(pipe, "sd1", prompt=prompt, **SMALL)
    return picture, recording.trace


def together(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls in threads of their own, started at once."""
    results: list[Any] = [None] * len(calls)

    def work(i: int) -> None:
        results[i] = calls[i]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_recordings_of_the_same_weights_wait_for_each_other(pipe: Any):
    expected = [solo(pipe, prompt) for prompt in PROMPTS]
    pipes = [pipe, twin(pipe)]
    for _ in range(3):
        found = together(*(lambda p=p, t=t: solo(p, t, wait=60.0) for p, t in zip(pipes, PROMPTS, strict=True)))
        for (picture, trace), (own, mine) in zip(expected, found, strict=True):
            assert np.array_equal(picture, own)
            assert trace.tree.identical(mine.tree)


def test_a_thread_that_only_generates_is_not_recorded(pipe: Any):
    """The hooks sit on weights that both threads run; each keeps to its own."""
    (expected, trace), (plain, _) = solo(pipe, PROMPTS[0]), solo(pipe, PROMPTS[1], record=False)
    other = twin(pipe)
    for _ in range(3):
        found = together(lambda: solo(pipe, PROMPTS[0]), lambda: solo(other, PROMPTS[1], record=False))
        assert np.array_equal(found[0][0], expected) and np.array_equal(found[1][0], plain)
        assert found[0][1].tree.identical(trace.tree)


# Pictures


def both(pipe: Any, family: str, **call: Any) -> tuple[np.ndarray, np.ndarray]:
    """Latents without and with a recording."""
    options = call | {"output_type": "latent"}
    with torch.no_grad():
        plain = pipelines.run(pipe, family, **options)
        with probe.record(pipe):
            recorded = pipelines.run(pipe, family, **options)
    return plain, recorded


def off(family: str) -> dict[str, Any]:
    """The call without guidance, where a family has any to switch off."""
    return {"guidance_scale": 1.0} if "guidance_scale" in pipelines.FAMILIES[family].call else {}


SLOW = [pytest.param(f, marks=() if f in pipelines.CORE else pytest.mark.slow) for f in pipelines.FAMILIES]


@pytest.mark.parametrize("family", SLOW)
def test_without_guidance_the_latents_stay_the_same_to_the_bit(family: str):
    plain, recorded = both(pipelines.pipeline(family), family, **off(family))
    assert np.array_equal(plain, recorded, equal_nan=True)


@pytest.mark.parametrize("family", SLOW)
def test_in_bfloat16_the_latents_stay_the_same_to_the_bit(family: str):
    pipe = pipelines.load(family, dtype=torch.bfloat16)
    for call in ({}, off(family)) if off(family) else ({},):
        plain, recorded = both(pipe, family, **call)
        assert np.array_equal(plain, recorded, equal_nan=True)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")  # torch, of plain runs too
@pytest.mark.parametrize("family", ["sd1", "sd3", "flux1"])
def test_under_autocast_the_latents_stay_the_same_and_shares_are_those_of_what_the_kernel_was_given(family: str):
    with torch.autocast("cpu", torch.bfloat16), checking() as checks:
        plain, recorded = both(pipelines.pipeline(family), family)
    assert np.array_equal(plain, recorded)
    assert {call.q.dtype for call, _ in checks.calls} == {torch.bfloat16}
    assert max(checks.errors.values()) < 1e-5


# Memory


class Largest(TorchDispatchMode):
    """The most elements of any tensor made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else (result,)
        self.found = max(self.found, *(t.numel() if isinstance(t, torch.Tensor) else 0 for t in made), 0)
        return result


@pytest.mark.parametrize(("family", "side", "cells"), [("sd1", 256, 64**2), ("flux1", 256, 32**2), ("sd3", 192, 24**2)])
def test_nothing_as_large_as_cells_times_cells_is_made(family: str, side: int, cells: int):
    pipe = pipelines.pipeline(family)
    with Largest() as largest, probe.record(pipe, words=["*"]):
        pipelines.run(pipe, family, height=side, width=side, output_type="latent", num_inference_steps=1)
    assert 0 < largest.found < cells * cells
