"""A run and two oracles of a pipeline that nobody prepared for, whether it makes pictures or films."""

import importlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.errors import ProbeWarning
from probe.trace import Trace
from tests.attach.looking import SPECIAL, Checks, checking
from tests.fingerprint import hooks, modules_of
from tests.pipelines import parts
from tests.pipelines.parts import Maker

PROMPTS, ASKED = (parts.PROMPT, "a dog"), ("cat", "dog")


def without_ftfy(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """What mends broken letters in these pipelines of diffusers need not be installed."""
    for name in names:
        module = importlib.import_module(f"diffusers.pipelines.{name}")
        monkeypatch.setattr(module, "ftfy", SimpleNamespace(fix_text=str), raising=False)


def run(pipe: Any, maker: Maker, **more: Any) -> Any:
    """What two steps make, or its latents; what a pipeline draws without a generator is the same too."""
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    return pipe(**maker.call | maker.inputs() | more, generator=torch.Generator().manual_seed(0))[0]


def watched(pipe: Any, maker: Maker) -> tuple[Any, Trace, Checks]:
    """What a recorded run makes, the trace of every column, and how its readings were checked."""
    words = ["*", *SPECIAL, "<image>"]
    with pytest.warns(ProbeWarning, match="inferred"), checking() as checks, probe.record(pipe, words) as recording:
        recorded = run(pipe, maker)
    return recorded, recording.trace, checks


def untouched(maker: Maker) -> tuple[Trace, Checks]:
    """As `watched`, of a pipeline that makes the same without recording, and gets back its hooks."""
    pipe: Any = maker.make()
    plain, before = run(pipe, maker), hooks(*modules_of(pipe))
    recorded, trace, checks = watched(pipe, maker)
    assert np.array_equal(np.asarray(plain), np.asarray(recorded))
    assert hooks(*modules_of(pipe)) == before
    return trace, checks


def first_steps(maker: Maker) -> tuple[np.ndarray, np.ndarray]:
    """The words' maps of `cond` at the first step, with guidance and without."""
    pipe: Any = maker.make()
    found = []
    for guidance in (4.0, 1.0):
        with pytest.warns(ProbeWarning), probe.record(pipe, ["cat", "balloon"]) as recording:
            run(pipe, maker, guidance_scale=guidance)
        found.append(recording.trace.attention_nodes()[0]["attention"].sel(branch="cond").isel(step=0).values)
    return found[0], found[1]


def together_and_alone(maker: Maker) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A word's maps at the first step, of its prompt in one call with another, and by itself; for both prompts."""
    pipe: Any = maker.make()
    pipe.set_progress_bar_config(disable=True)

    def recorded(chosen: list[int]) -> Any:
        said = {"prompt": [PROMPTS[i] for i in chosen]}
        if "negative_prompt" in maker.call:
            said["negative_prompt"] = [maker.call["negative_prompt"]] * len(chosen)
        drawn = [torch.Generator().manual_seed(i) for i in chosen]
        with pytest.warns(ProbeWarning), probe.record(pipe, [ASKED[i] for i in chosen]) as recording:
            pipe(**maker.call | said, generator=drawn)
        return recording.trace.attention_nodes()[0]["attention"].isel(step=0)

    both = recorded([0, 1])
    for i, word in enumerate(ASKED):
        yield both.sel(word=word).isel(image=i).values, recorded([i]).sel(word=word).isel(image=0).values
