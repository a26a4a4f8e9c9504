"""Other prompts: each identity on real pipelines."""

import numpy as np
import pytest

from probe.errors import BadInput
from probe.nurse import ComposableDiffusion, PromptSchedule
from tests import pipelines
from tests.nurse.drawing import PROMPT, draw

OTHER = "a blue bird on a bench"


def test_which_prompt_is_read_when():
    schedule = PromptSchedule(prompts={2: "b", 5: "c"})
    assert [schedule.weights(step, 8) for step in (0, 1, 2, 4, 5, 7)] == [None, None] + [{"b": 1.0}] * 2 + [
        {"c": 1}
    ] * 2


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux1"])
def test_another_prompt_from_the_first_step_on_is_the_other_s_picture(family):
    scheduled = draw(family, PROMPT, PromptSchedule(prompts={0: OTHER}))
    np.testing.assert_allclose(scheduled, draw(family, OTHER), atol=2e-5)


@pytest.mark.parametrize("family", ["sd1_controlnet", "sdxl_controlnet"])
@pytest.mark.parametrize("call", [{}, {"guess_mode": True}], ids=["both branches", "guess mode"])
def test_a_controlnet_reads_the_other_prompt_too(family, call):
    call = call | pipelines.FAMILIES[family].inputs()
    told = draw(family, OTHER, **call)
    np.testing.assert_allclose(draw(family, PROMPT, PromptSchedule(prompts={0: OTHER}), **call), told, atol=2e-5)
    assert np.abs(draw(family, PROMPT, **call) - told).max() > 1e-3
    with pytest.raises(BadInput, match="ControlNet of this pipeline reads the prompt alone: use a method that adds up"):
        draw(family, PROMPT, ComposableDiffusion(prompts=(OTHER,)), **call)


def test_a_schedule_of_the_same_prompt_is_plain_and_a_later_change_is_neither():
    plain = draw("sd1")
    np.testing.assert_allclose(draw("sd1", PROMPT, PromptSchedule(prompts={1: PROMPT})), plain, atol=1e-6)
    later = draw("sd1", PROMPT, PromptSchedule(prompts={1: OTHER}))
    assert np.abs(later - plain).max() > 1e-3 and np.abs(later - draw("sd1", OTHER)).max() > 1e-3


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "animate_diff"])
def test_composing_one_prompt_is_that_prompt_s_picture(family):
    composed = draw(family, PROMPT, ComposableDiffusion(prompts=(OTHER,)))
    np.testing.assert_allclose(composed, draw(family, OTHER), atol=1e-4)


def test_two_prompts_that_are_one_add_up_to_twice_the_guidance():
    twice = draw("sd1", PROMPT, ComposableDiffusion(prompts=(OTHER, PROMPT), scales=(0.0, 2.0)), guidance_scale=3.0)
    np.testing.assert_allclose(twice, draw("sd1", guidance_scale=6.0), atol=2e-4)


def test_nouns_and_their_modifiers_make_the_prompts():
    assert ComposableDiffusion(bindings={"cat#2": ("big", "red"), "owl": ()}).texts == ("a big red cat", "an owl")


def test_what_cannot_be_says_so():
    with pytest.raises(BadInput, match="has no prompts"):
        draw("sd1", PROMPT, PromptSchedule())
    with pytest.raises(BadInput, match="steps count from 0"):
        draw("sd1", PROMPT, PromptSchedule(prompts={-1: OTHER}))
    with pytest.raises(BadInput, match="has a prompt from step 3 on, and this run has the steps 0 to 2: give it one"):
        draw("sd1", PROMPT, PromptSchedule(prompts={0: OTHER, 3: OTHER}))
    with pytest.raises(BadInput, match="2 prompts and 1 scales"):
        draw("sd1", PROMPT, ComposableDiffusion(prompts=("a", "b"), scales=(1.0,)))
    with pytest.raises(BadInput, match="needs both branches in one batch"):
        draw("flux1", PROMPT, ComposableDiffusion(prompts=(OTHER,)))
