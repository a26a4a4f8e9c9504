"""Secure: it begins as Separate, goes on as Adaptive, and says where it cannot."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.errors import BadInput
from probe.intervention import Intervention, Score
from probe.nurse import Secure, Separate
from probe.study.nursing import nurse_for, prompt_methods
from tests import pipelines

PROMPT, SUBJECTS, GROUPS = "a red cat and a balloon", ("cat", "balloon"), (("red", "cat"), ("balloon",))
SHORT: dict[str, Any] = {"subjects": SUBJECTS, "groups": GROUPS, "apart": 2, "watch": 1, "thresholds": {}}
CALL = {"height": 64, "width": 96, "num_inference_steps": 5, "guidance_scale": 5.0, "output_type": "latent"}


class Sure:
    """A predictor that knows in advance."""

    def __init__(self, chance: float):
        self.chance = chance

    def probability(self, signals: Mapping[str, float]) -> float:
        return self.chance


def drawn(*methods: Intervention) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The latents after every step, and the log of nursing."""
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe, words=["*"], interventions=methods) as recording:
        pipe(PROMPT, **CALL, generator=torch.Generator().manual_seed(3))
    return recording.trace.node("latents")["latents"].values, recording.trace.extra.get("nursing", [])


def test_who_is_safe_is_left_as_separate_made_it():
    separate, _ = drawn(Separate(subjects=SUBJECTS, groups=GROUPS, max_steps=2))
    secured, log = drawn(Secure(**SHORT, predictor=Sure(0.0)))
    assert np.array_equal(separate, secured)
    assert [(entry["step"], entry["method"]) for entry in log] == [(0, "Separate"), (1, "Separate"), (2, "Secure")]
    assert log[2]["shift"] == 0.0  # it looks


def test_who_is_about_to_fail_is_nursed_after_that():
    separate, _ = drawn(Separate(subjects=SUBJECTS, groups=GROUPS, max_steps=2))
    secured, log = drawn(Secure(**SHORT, predictor=Sure(1.0)))
    assert np.array_equal(separate[:3], secured[:3])  # the noise, and after the steps that it moved
    assert not np.array_equal(separate[3], secured[3])
    nursed = [entry for entry in log if entry["step"] == 3]
    assert len(nursed) == 1 and nursed[0]["shift"] > 0 and set(nursed[0]["subjects"][0]) == set(SUBJECTS)


def test_the_first_step_that_is_nursed_is_refined_until_what_was_missing_is_there():
    method = Secure(subjects=SUBJECTS, groups=GROUPS)
    assert method.target(10) == pytest.approx(1 - method.needed)
    assert [method.target(step) for step in (5, 9, 20)] == [None, None, pytest.approx(0.2)]
    seen = [Score(1.0, dict.fromkeys(SUBJECTS, 0.1), planes={s: torch.rand(4, 4) for s in SUBJECTS})] * 9
    assert isinstance(method.now(4, seen[:4]), Separate)
    looks = method.now(9, seen)
    assert looks is not None and looks.strength == 0.0


def test_strength_zero_changes_nothing():
    assert np.array_equal(drawn()[0], drawn(Secure(**SHORT, strength=0.0, predictor=None))[0])


def test_a_run_that_ends_before_anybody_is_held_is_refused():
    with pytest.raises(BadInput, match="Secure moves and watches 10 steps, and there are 5 that it may nurse: lower"):
        drawn(Secure(subjects=SUBJECTS, groups=GROUPS, predictor=None))


def test_it_needs_what_separate_needs():
    with pytest.raises(BadInput, match="Separate tells groups of words apart"):
        Secure(subjects=("cat",), groups=(("cat",),)).check()
    with pytest.raises(BadInput, match="Secure has no subjects"):
        Secure(groups=GROUPS).check()


def test_a_prompt_alone_sets_it_up():
    assert "Secure" in prompt_methods()
    made = nurse_for("Secure", PROMPT)
    assert isinstance(made, Secure) and (made.subjects, made.groups) == (SUBJECTS, GROUPS)
