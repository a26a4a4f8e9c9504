"""Which generation is whose: pipelines that share a denoiser, embeddings given again, one negative text for all."""

import warnings
from typing import Any

import numpy as np
import pytest
from diffusers import FluxImg2ImgPipeline, StableDiffusionImg2ImgPipeline

import probe
from probe.errors import ProbeWarning, RecordingError
from tests import pipelines
from tests.pipelines.parts import picture

PROMPT = "a cat and a red balloon"


def maps(trace: probe.Trace) -> np.ndarray:
    """Every reading of attention, in one row."""
    return np.concatenate([node["attention"].values.ravel() for node in trace.attention_nodes()])


# Another pipeline with the same denoiser and scheduler

OTHERS = {"flux1": FluxImg2ImgPipeline, "sd1": StableDiffusionImg2ImgPipeline}


def both(family: str) -> tuple[Any, Any]:
    pipe = pipelines.load(family)
    other = OTHERS[family](**pipe.components)
    other.set_progress_bar_config(disable=True)
    return pipe, other


def refine(other: Any) -> None:
    other("two dogs", image=picture(), num_inference_steps=4, strength=0.5, output_type="latent")


@pytest.mark.parametrize("family", OTHERS)
def test_what_another_pipeline_draws_with_the_same_denoiser_is_none_of_a_generation(family: str):
    pipe, other = both(family)
    with probe.record(pipe, keep="maps") as alone:
        pipelines.run(pipe, family, prompt=PROMPT)
    with probe.record(pipe, keep="maps") as recording:
        refine(other)
        pipelines.run(pipe, family, prompt=PROMPT)
        refine(other)
        pipelines.run(pipe, family, prompt="a dog")
    first, second = recording.traces
    assert (first.prompt, second.prompt) == (PROMPT, "a dog")
    assert first.run.timesteps == alone.trace.run.timesteps
    assert np.array_equal(maps(first), maps(alone.trace))


@pytest.mark.parametrize("family", OTHERS)
def test_two_recordings_of_pipelines_that_share_a_denoiser_each_have_their_own(family: str):
    pipe, other = both(family)
    with probe.record(pipe) as mine, probe.record(other) as its:
        pipelines.run(pipe, family, prompt=PROMPT)
        refine(other)
    assert [trace.prompt for trace in mine.traces] == [PROMPT]
    assert [trace.prompt for trace in its.traces] == ["two dogs"]
    assert its.trace.run.steps == 2


def test_an_intervention_leaves_another_pipeline_alone():
    pipe, other = both("sd1")
    nurse = probe.nurse.AttendAndExcite(subjects=("cat",), thresholds={})
    with probe.record(pipe, interventions=[nurse]) as recording:
        pipelines.run(pipe, "sd1", prompt=PROMPT)
        refine(other)
    assert [entry["step"] for entry in recording.trace.extra["nursing"]] == [0, 1]


def test_the_trace_is_there_as_soon_as_the_next_one_begins():
    pipe = pipelines.load("sd1")
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd1", prompt=PROMPT)
        assert recording.traces == []  # its pictures may still be on their way
        pipelines.run(pipe, "sd1", prompt="a dog")
        assert [trace.prompt for trace in recording.traces] == [PROMPT]


# Embeddings


def embedded(pipe: Any, family: str, prompt: str) -> dict[str, Any]:
    """The arguments that stand for a prompt."""
    more = {"prompt_2": None} if family != "sd1" else {}
    more |= {"prompt_3": None} if family == "sd3" else {}
    guided = {"do_classifier_free_guidance": True} if family != "flux1" else {}
    found = pipe.encode_prompt(prompt=prompt, device="cpu", num_images_per_prompt=1, **guided, **more)
    names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    return dict(zip(names[::2] if family == "flux1" else names, found, strict=False))


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux1"])
def test_a_prompt_is_encoded_once_and_drawn_twice(family: str):
    pipe, traces = pipelines.load(family), []
    for seeds in ([1], [0, 1]):
        with probe.record(pipe, words=["cat", "balloon"], text_states=True) as recording:
            given = embedded(pipe, family, PROMPT)
            for seed in seeds:
                pipelines.run(pipe, family, prompt=None, seed=seed, **given)
        assert [trace.run.seed for trace in recording.traces] == seeds
        traces.append(recording.trace)
    alone, again = traces
    assert again.prompt == PROMPT and again.labels == alone.labels and "cat" in again.labels
    assert np.array_equal(maps(again), maps(alone), equal_nan=True)
    for encoder in alone.tree["text"].children:
        states = [trace.node(f"text/{encoder}")["states"].values for trace in traces]
        assert np.array_equal(*states, equal_nan=True)


def test_embeddings_of_another_text_are_not_taken_for_the_one_before():
    pipe = pipelines.load("sd1")
    others = embedded(pipe, "sd1", "a dog")
    with pytest.raises(RecordingError, match="no prompt was encoded as text"), probe.record(pipe):
        pipelines.run(pipe, "sd1", prompt=PROMPT)
        pipelines.run(pipe, "sd1", prompt=None, **others)


# One negative text beside several prompts


@pytest.mark.parametrize("family", ["flux1", "hunyuan_video", "qwen_image", "sd3"])
def test_one_negative_text_stands_beside_all_prompts(family: str):
    pipe, prompts = pipelines.load(family), [PROMPT, "two dogs"]
    scale = {} if family == "sd3" else {"true_cfg_scale": 3.0}
    traces = []
    for negative in ("a car", ["a car", "a car"]):
        with probe.record(pipe, words=["*"], branches=["*"], keep="maps") as recording:
            pipelines.run(pipe, family, prompt=prompts, negative_prompt=negative, **scale)
        traces.append(recording.trace)
    one, several = traces
    assert one.along("branch") == several.along("branch") == ("cond", "negative")
    assert one.labels_of(1, "negative") == ("a", "car")
    assert one.node("guidance").attrs["method"] == "classifier-free guidance"
    assert np.allclose(maps(one), maps(several), atol=1e-6, equal_nan=True)
    assert recording.estimate.total == pytest.approx(one.nbytes, rel=0.1)


# Masks in another order than texts (Lumina 2 in diffusers, several prompts times several pictures)


def test_words_that_a_mask_leaves_out_are_told():
    pipe, prompts = pipelines.load("lumina2"), [PROMPT, "a very small dog's house, cat cat"]
    with pytest.warns(
        ProbeWarning, match=r"attends to \d+ tokens of \"a very small.*does not see: .*cat#2.*draw one prompt"
    ):
        with probe.record(pipe, words=["*"]) as recording:
            pipelines.run(pipe, "lumina2", prompt=prompts, num_images_per_prompt=2)
        assert "cat#2" not in recording.trace.labels_of(2) and "cat#2" in recording.trace.labels_of(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProbeWarning)
        with probe.record(pipe, words=["*"]) as recording:
            pipelines.run(pipe, "lumina2", prompt=prompts)
    assert "cat#2" in recording.trace.labels_of(1)
