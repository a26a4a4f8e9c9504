"""Leaving words out: re-computed by hand, and identities of shares, values and texts, on real pipelines."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.attach.asked.inquiry import Scene
from probe.attach.asked.leave_out import Remover, gained, orders, shares
from probe.attach.asked.rerun import conditional
from probe.attach.model.families import denoiser, family
from probe.attach.text.encode import columns, encode, lacking, padded
from probe.attach.text.rows import Row
from probe.errors import BadInput, NoSuchWord
from probe.words import read_prompt
from tests import pipelines
from tests.fingerprint import fingerprint

WORDS = ["cat", "red", "balloon"]
TOLD = {"prompt": pipelines.PROMPT, "device": "cpu"}  # what a run tells the encoding


@pytest.fixture(scope="module")
def case() -> tuple[Any, dict[str, Any]]:
    """A recorded run, and what the denoiser was given at its first step."""
    pipe, given = pipelines.load("sd1"), []
    plain = pipelines.run(pipe, "sd1")
    hook = pipe.unet.register_forward_pre_hook(lambda m, a, k: given.append((a, k)), with_kwargs=True, prepend=True)
    asked = [probe.LeaveOneOut(steps=(0, 1)), probe.Shapley(steps=(0,), permutations=6)]
    with probe.record(pipe, explain=asked) as recording:
        explained = pipelines.run(pipe, "sd1")
    hook.remove()
    assert np.array_equal(plain, explained)  # asking changes nothing
    (sample, timestep), more = given[0]
    return (pipe, recording.trace), {"sample": sample, "timestep": timestep, **more}


def test_the_map_equals_two_passes_by_hand(case: Any):
    (pipe, trace), given = case
    states = given["encoder_hidden_states"][1:]
    column = trace.words[1].tokens["text_encoder"]
    assert trace.words[1].label == "cat"
    changed = states.clone()
    changed[:, list(column)] = states[:, -1:]
    with torch.no_grad():
        call = {"timestep": given["timestep"], "sample": given["sample"][1:].double()}
        unet = pipe.unet.double()
        whole, part = (unet(**call, encoder_hidden_states=s.double()).sample for s in (states, changed))
        uncond = unet(**call, encoder_hidden_states=given["encoder_hidden_states"][:1].double()).sample
        pipe.unet.float()
    node = trace.node("leave_one_out").isel(step=0, image=0)
    vector, total = (whole - part)[0], (whole - uncond)[0]
    np.testing.assert_allclose(node["magnitude"].sel(word="cat"), vector.norm(dim=0), atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(node["norm"].sel(word="cat"), vector.norm(), rtol=1e-4)
    np.testing.assert_allclose(node["share"].sel(word="cat"), (vector * total).sum() / total.norm() ** 2, rtol=1e-3)
    np.testing.assert_allclose(node["total"], total.norm(), rtol=1e-4)


def test_shares_and_interaction_make_the_whole(case: Any):
    node = case[0][1].node("leave_one_out")
    assert list(node["word"].values) == WORDS and node["magnitude"].dims == ("step", "image", "word", "y", "x")
    np.testing.assert_allclose(node["share"].sum("word") + node["interaction"], 1.0, atol=1e-6)
    assert node.attrs == {"replace": "padding", "against": "uncond"}


def test_shapley_values_sum_to_one_and_all_orders_have_no_error(case: Any):
    node = case[0][1].node("shapley")
    np.testing.assert_allclose(node["share"].sum("word"), 1.0, atol=1e-5)
    np.testing.assert_allclose(node["value"].sum(("y", "x")), node["share"], atol=1e-5)
    assert float(abs(node["error"]).max()) == 0.0  # 6 orders of 3 words are all
    assert float(node["share"].std()) > 0


def scene() -> Scene:
    pipe = pipelines.pipeline("sd1")
    prompt = read_prompt(pipelines.PROMPT, {"text_encoder": pipe.tokenizer}, lengths={"text_encoder": 77})
    return Scene(pipe, family(pipe), [prompt], [TOLD])


def beside(states: torch.Tensor) -> Any:
    """One row without guidance."""
    module = denoiser(pipelines.pipeline("sd1"))[1]
    x = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    given = {"sample": x, "timestep": torch.tensor(500), "encoder_hidden_states": states[None]}
    return next(conditional(module, given, [Row("cond", 0, 0)], family(pipelines.pipeline("sd1"))))


def test_a_word_equal_to_padding_leaves_nothing():
    own = scene()
    text = encode(own, pipelines.PROMPT, like=own.prompts[0])
    empty = padded(own.prompts[0], own.family, text.states, ["cat"])
    eps = Remover(own, "padding").predict(beside(empty), [(), ("cat",), ("red",)])
    np.testing.assert_allclose(eps[1], eps[0], atol=1e-6)
    assert float((eps[2] - eps[0]).abs().max()) > 1e-3


def test_encoding_again_without_anything_changes_nothing():
    own = scene()
    text = encode(own, pipelines.PROMPT, like=own.prompts[0])
    eps = Remover(own, "reencode").predict(beside(text.states), [(), ("cat",)])
    np.testing.assert_allclose(eps[0], beside(text.states).predict()[0].detach(), atol=1e-5)
    assert float((eps[1] - eps[0]).abs().max()) > 1e-3


def test_what_is_encoded_aside_is_what_the_pipeline_encodes():
    own = scene()
    text = encode(own, "a red cat", like=own.prompts[0])
    expected = own.pipe.encode_prompt("a red cat", "cpu", 1, False)[0]
    assert torch.equal(text.states, expected[0]) and not text.states.requires_grad
    assert columns(text.prompt, own.family, "red cat") == (2, 3)


def test_text_without_words():
    prompt = read_prompt("a cat, and a red  cat", {})
    assert lacking(prompt, ["cat"]) == "a , and a red cat"
    assert lacking(prompt, ["cat#2", "red"]) == "a cat, and a"
    with pytest.raises(NoSuchWord, match="dog"):
        lacking(prompt, ["dog"])


def test_shares_of_parts_that_are_apart():
    whole = torch.zeros(2, 2, 2)
    whole[0, 0, 0], whole[1, 1, 1] = 3.0, 4.0
    parts = torch.stack([whole.clone(), torch.zeros_like(whole)])
    parts[0, 1, 1, 1], parts[1, 1, 1, 1] = 0.0, 4.0
    np.testing.assert_allclose(shares(parts, whole).sum((-2, -1)), [9 / 25, 16 / 25])


def test_values_of_a_game_by_hand():
    """v = 1 for the first player alone, 3 for both, 0 else: values 2 and 1."""
    values = {frozenset[int](): 0.0, frozenset({0}): 1.0, frozenset({1}): 0.0, frozenset({0, 1}): 3.0}
    worth = {key: torch.tensor(value) for key, value in values.items()}
    gains = [gained(order, worth) for order in orders(2, 10, 0)]
    assert [float(sum(gain[i] for gain in gains)) / 2 for i in (0, 1)] == [2.0, 1.0]


def test_orders_are_drawn_from_the_seed_without_repeats():
    assert len(orders(3, 6, 0)) == math.factorial(3)
    drawn = orders(6, 9, 4)
    assert drawn == orders(6, 9, 4) != orders(6, 9, 5)
    assert len(set(drawn)) == 9 and all(sorted(order) == list(range(6)) for order in drawn)


ADAPTED = [("sd1_controlnet", "padding"), ("sd1_ip_adapter", "padding")]


@pytest.mark.parametrize(("name", "replace"), [*product(["sd3", "flux1", "sdxl"], ["padding", "reencode"]), *ADAPTED])
def test_other_families(name: str, replace: Any):
    pipe = pipelines.pipeline(name)
    with probe.record(pipe, explain=probe.LeaveOneOut(steps=(0,), replace=replace)) as recording:
        pipelines.run(pipe, name)
    node = recording.trace.node("leave_one_out")
    assert list(node["word"].values) == WORDS and float(node["magnitude"].min()) >= 0
    assert float(node["norm"].min()) > 0
    assert node.attrs["against"] == ("no words" if name == "flux1" else "uncond")


def test_models_whose_text_is_not_padded_say_what_to_do():
    pipe = pipelines.pipeline("qwen_image")
    with pytest.raises(BadInput, match="reencode"), probe.record(pipe, explain=probe.LeaveOneOut(steps=(0,))):
        pipelines.run(pipe, "qwen_image")
    asked = probe.LeaveOneOut(steps=(0,), replace="reencode")
    with pytest.raises(BadInput, match=r"probe.without\(pipe"), probe.record(pipe, explain=asked):
        pipelines.run(pipe, "qwen_image")
    with pytest.raises(BadInput, match="no tensor"), probe.record(pipelines.pipeline("z_image"), explain=asked):
        pipelines.run(pipelines.pipeline("z_image"), "z_image")
    with (
        pytest.raises(BadInput, match="columns of words"),
        probe.record(pipelines.pipeline("kandinsky22"), explain=asked),
    ):
        pipelines.run(pipelines.pipeline("kandinsky22"), "kandinsky22")


def test_unknown_words_are_listed():
    asked = probe.LeaveOneOut(words=("dog",))
    pipe = pipelines.pipeline("sd1")
    with pytest.raises(NoSuchWord, match="balloon"), probe.record(pipe, explain=asked):
        pipelines.run(pipe, "sd1")


def test_two_prompts_with_other_words_have_nan_where_a_word_is_not_theirs():
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe, explain=probe.LeaveOneOut(steps=(0,))) as recording:
        pipelines.run(pipe, "sd1", prompt=["a cat", "a red dog"])
    norm = recording.trace.node("leave_one_out")["norm"].isel(step=0)
    assert list(norm["word"].values) == ["cat", "red", "dog"]
    assert np.isnan(norm.values).tolist() == [[False, True, True], [True, False, False]]


def spoken_of(pipe: Any, words: tuple[str, ...]) -> tuple[Any, list[dict[str, Any]]]:
    """A run's answer, and what its denoiser was given."""
    given: list[dict[str, Any]] = []
    hook = pipe.unet.register_forward_pre_hook(lambda m, a, k: given.append({"args": a, **k}), with_kwargs=True)
    asked = [probe.LeaveOneOut(words=words, steps=(0,)), probe.Concepts(words=("zebra",), steps=(0,))]
    with probe.record(pipe, explain=asked) as recording:
        pipelines.run(pipe, "sd1_controlnet")
    hook.remove()
    return recording.trace, given


def test_a_word_that_is_left_out_is_left_out_of_what_the_controlnet_reads():
    pipe, led = pipelines.load("sd1_controlnet"), []
    hook = pipe.controlnet.register_forward_pre_hook(lambda m, a, k: led.append((a, k)), with_kwargs=True)
    trace, given = spoken_of(pipe, ("cat",))
    hook.remove()
    (sample, timestep), more = led[0]
    states = more["encoder_hidden_states"][1:].clone()
    without = states.clone()
    without[:, list(trace.words[1].tokens["text_encoder"])] = states[:, -1:]
    eps = []
    for text in (states, without):
        own = {**more, "encoder_hidden_states": text, "controlnet_cond": more["controlnet_cond"][1:]}
        with torch.no_grad():
            down, mid = pipe.controlnet(sample[1:], timestep, **own)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            eps.append(pipe.unet(given[0]["args"][0][1:], timestep, encoder_hidden_states=text, **residuals).sample[0])
    found = trace.node("leave_one_out").isel(step=0, image=0).sel(word="cat")
    np.testing.assert_allclose(found["magnitude"], (eps[0] - eps[1]).norm(dim=0), rtol=1e-3, atol=1e-5)


def test_what_does_not_reach_the_denoiser_as_it_is_cannot_be_asked_again():
    pipe = pipelines.pipeline("sd1_controlnet")
    with (
        pytest.raises(BadInput, match="leave guess_mode off"),
        probe.record(pipe, explain=probe.LeaveOneOut(steps=(0,))),
    ):
        pipelines.run(pipe, "sd1_controlnet", guess_mode=True)


class Fault(RuntimeError):
    """An injected error."""


def test_nothing_is_left_behind_when_it_fails(monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.load("sd1")
    pipelines.run(pipe, "sd1")
    marks = fingerprint(pipe)
    asked = probe.LeaveOneOut(steps=(0,), replace="reencode")
    with probe.record(pipe, explain=asked):
        pipelines.run(pipe, "sd1")
    assert fingerprint(pipe) == marks

    def broken(*_: object) -> None:
        raise Fault("injected")

    monkeypatch.setattr("probe.attach.asked.leave_out.shares", broken)
    with pytest.raises(Fault), probe.record(pipe, explain=asked):
        pipelines.run(pipe, "sd1")
    assert fingerprint(pipe) == marks


def test_running_again_without_a_word():
    pipe = pipelines.pipeline("sd1")
    traces = probe.without(pipe, pipelines.PROMPT, ["cat"], num_inference_steps=1, height=64, width=96)
    assert list(traces) == ["", "cat"] and traces["cat"].prompt == "a and a red balloon"
    same = probe.without(pipe, pipelines.PROMPT, [], num_inference_steps=1, height=64, width=96)
    assert float(probe.change(traces[""], same[""]).max()) == 0.0
    assert float(probe.change(traces[""], traces["cat"]).max()) > 0.0


def test_a_text_without_a_word_has_its_own_mask():
    """What the prompt and the text without the word predict in runs of their own."""
    pipe = pipelines.pipeline("chroma")
    call = {"num_inference_steps": 1, "output_type": "latent"}
    asked = probe.LeaveOneOut(words=("red",), steps=(0,), replace="reencode")
    with probe.record(pipe, explain=asked) as recording:
        pipelines.run(pipe, "chroma", **call)
    with probe.record(pipe, words=[]) as own:
        pipelines.run(pipe, "chroma", **call)
        pipelines.run(pipe, "chroma", prompt="a cat and a balloon", **call)
    predictions = [trace.node("latents")["predicted_cond"].values[0].astype(np.float64) for trace in own.traces]
    difference = predictions[0] - predictions[1]
    magnitude = recording.trace.node("leave_one_out")["magnitude"].values.squeeze()
    found = np.sqrt((difference.squeeze() ** 2).sum(0))
    assert np.corrcoef(found.ravel(), magnitude.ravel())[0, 1] > 0.999
