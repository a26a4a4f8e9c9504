"""Nursing on every body: U-Nets with one and two encoders, joint attention, flow matching, batches, half precision."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field

import probe
from probe.intervention import LatentIntervention, Maps, Score
from probe.nurse import AttendAndExcite, InitNO
from tests import pipelines
from tests.fingerprint import fingerprint
from tests.nurse.drawing import FEW, PROMPT, SIZES, draw, drawn, pipe

BODIES = ("sd1", "sdxl", "sd3", "flux1")
ONE = AttendAndExcite(
    subjects=("cat", "balloon"), scale_factor=0.5, max_steps=1, thresholds={0: 1.0}, max_refinements=1
)


@pytest.mark.parametrize("family", BODIES)
def test_a_small_step_lowers_the_loss_and_all_is_given_back(family):
    plain = draw(family)
    before = fingerprint(pipe(family))
    result, recording = drawn(family, PROMPT, ONE)
    assert fingerprint(pipe(family)) == before
    [entry] = recording.trace.extra["nursing"]
    assert entry["losses"][1] < entry["losses"][0]
    assert 0 < entry["shift"] < entry["norm"]
    assert np.isfinite(result).all() and not np.array_equal(result, plain)


@pytest.mark.parametrize("family", BODIES)
def test_strength_zero_is_bit_identical(family):
    assert np.array_equal(draw(family, PROMPT, ONE.model_copy(update={"strength": 0.0})), draw(family))


class Spy(LatentIntervention):
    """Looks at the maps and moves nothing."""

    shown: list[Any] = Field(default_factory=list, exclude=True)

    def now(self, step: int, seen: Any) -> LatentIntervention:
        return self.model_copy(update={"strength": 0.0})

    def score(self, maps: Maps) -> Score:
        self.shown.append((maps.A.numpy(), maps.positions))
        return Score(0.0)


class Witness(LatentIntervention):
    """Keeps what it was shown, and refines."""

    shown: list[Any] = Field(default_factory=list, exclude=True)

    def met(self, step: int, score: Score) -> bool:
        return False

    def score(self, maps: Maps) -> Score:
        before = maps.previous
        self.shown.append((maps.A.detach(), None if before is None else before.A, maps.past))
        return Score(maps.A[..., 2].max())


def test_what_was_before_is_of_the_step_before_also_while_refining():
    witness = Witness(subjects=("cat",), max_steps=3, max_refinements=2, scale_factor=1.0)
    draw("sd1", PROMPT, witness)
    (A, *_), shown = witness.shown[2], witness.shown  # three passes a step
    assert [before is None and past is None for _, before, past in shown] == [True] * 3 + [False] * 6
    assert all(torch.equal(before, A) for _, before, _ in shown[3:6])
    torch.testing.assert_close(shown[6][2], 0.9 * A + 0.1 * shown[5][0])


WORDS = {"sd3": "@text_encoder", "flux1": "@text_encoder_2"}


@pytest.mark.parametrize("family", BODIES)
def test_a_loss_sees_the_words_where_the_recording_sees_them(family):
    spy, mark = Spy(subjects=("cat", "red"), max_steps=1), WORDS.get(family, "")
    words = [f"cat{mark}", f"red{mark}"]
    given = SIZES | FEW | {"prompt": PROMPT, "num_inference_steps": 1}
    with probe.record(pipe(family), words, interventions=[spy]) as recording:
        pipe(family)(**pipelines.FAMILIES[family].call | given, generator=torch.Generator().manual_seed(0))
    [(A, positions)] = spy.shown
    nodes = [node for node in recording.trace.attention_nodes() if node["attention"].shape[-2:] == A.shape[:2]]
    read = {word: nodes[0]["attention"].sel(word=word).isel(step=0, branch=0, image=0).values.mean(0) for word in words}
    seen = {word: A[..., list(positions[word.partition("@")[0]])].sum(-1) for word in words}
    if mark:  # of a joint attention a loss sees shares of what goes to the text
        read, seen = ({"ratio": maps[words[0]] / maps[words[1]]} for maps in (read, seen))
    for name in read:
        np.testing.assert_allclose(seen[name], read[name], rtol=2e-4)


@pytest.mark.parametrize("family", ["sd1", "sd3"])
def test_two_prompts_are_nursed_each_for_its_own_words(family):
    prompts = ["a red balloon and a cat", PROMPT]
    both, recording = drawn(family, prompts, ONE)
    assert [entry["image"] for entry in recording.trace.extra["nursing"]] == [0, 1]
    alone = draw(family, PROMPT, ONE)
    np.testing.assert_allclose(both[1], alone[0], atol=5e-4)


def test_a_joint_pass_ends_after_the_last_block_that_is_read():
    runs: list[int] = []
    last = pipe("sd3").transformer.transformer_blocks[-1]
    handle = last.register_forward_pre_hook(lambda *_: runs.append(1))
    every = AttendAndExcite(subjects=("cat",), thresholds={})
    draw("sd3", PROMPT, every)  # the first time, one more pass learns what there is
    runs.clear()
    try:
        draw("sd3", PROMPT, every.model_copy(update={"sites": ("transformer_blocks.0.",)}))
        early, _ = len(runs), runs.clear()
        draw("sd3", PROMPT, every)
    finally:
        handle.remove()
    assert (early, len(runs)) == (3, 3 + 3)


def test_the_log_sum_exp_made_again_on_the_way_back_is_the_same(monkeypatch):
    whole = draw("flux1", PROMPT, ONE)
    monkeypatch.setattr("probe.attach.waist.CHUNK", 256)
    np.testing.assert_allclose(draw("flux1", PROMPT, ONE), whole, atol=2e-5)


def test_a_joint_attention_is_pooled_to_a_coarser_grid():
    coarse = Spy(subjects=("cat",), max_steps=1, resolution=(2, 3))
    fine = Spy(subjects=("cat",), max_steps=1)
    for spy in (coarse, fine):
        draw("sd3", PROMPT, spy)
    blocks = fine.shown[0][0].reshape(2, 2, 2, 2, -1).mean((1, 3)) if fine.shown[0][0].shape[:2] == (4, 4) else None
    assert coarse.shown[0][0].shape[:2] == (2, 3)
    if blocks is None:
        y, x = (side // part for side, part in zip(fine.shown[0][0].shape[:2], (2, 3), strict=True))
        blocks = fine.shown[0][0].reshape(2, y, 3, x, -1).mean((1, 3))
    np.testing.assert_allclose(coarse.shown[0][0], blocks, atol=1e-6)


def test_init_no_looks_for_a_noise_first():
    method = InitNO(subjects=("cat", "balloon"), max_steps=1, thresholds={})
    how = method.search.model_copy(update={"rounds": 2, "iterations": 2, "last": 1})
    result, recording = drawn("sd1", PROMPT, method.model_copy(update={"search": how}))
    first, second = recording.trace.extra["nursing"]
    assert len(first["search"]) == 5 and all(np.isfinite(first["search"]))
    assert set(second["terms"][0]) == {"response", "conflict", "clean"} and second["shift"] > 0
    assert not np.array_equal(result, draw("sd1"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    half = pipelines.load("sd1", dtype=dtype)
    with probe.record(half, words=[], interventions=[ONE.model_copy(update={"scale_factor": 5.0})]) as recording:
        result = half(PROMPT, generator=torch.Generator().manual_seed(3), **SIZES | FEW).images
    assert torch.isfinite(result).all()
    [entry] = recording.trace.extra["nursing"]
    assert entry["losses"][1] < entry["losses"][0] and entry["shift"] > 0
