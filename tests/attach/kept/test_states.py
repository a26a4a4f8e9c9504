"""Text encoders layer by layer: what they give when they are asked themselves; nothing left on them."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.attach.kept.states import DepthReader, Depths, stacks
from probe.attach.text.hearing import Encoded
from probe.errors import NoMatch, RecordingError
from tests import pipelines
from tests.fingerprint import fingerprint

FAMILIES = ["sdxl", "flux1", "qwen_image", "wan"]  # CLIP, T5, a language model, UMT5


def heard(pipe: Any, family: str, **options: Any) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """A trace with text states, and the calls that each encoder got."""
    calls: dict[str, list[dict[str, Any]]] = {}

    def note(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        calls.setdefault(name, []).append({k: v for k, v in given.items() if k in ("input_ids", "attention_mask")})

    encoders = {n: part for n, part in pipe.components.items() if "text_encoder" in n and isinstance(part, nn.Module)}
    handles = [
        part.register_forward_pre_hook(lambda m, a, k, n=n: note(n, m, a, k), with_kwargs=True)
        for n, part in encoders.items()
    ]
    with probe.record(pipe, **options) as recording:
        pipelines.run(pipe, family)
    for handle in handles:
        handle.remove()
    return recording.trace, calls


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_that_the_encoder_gives_when_it_is_asked(family: str):
    pipe = pipelines.load(family)
    trace, calls = heard(pipe, family, text_states=True)
    assert set(trace.tree["text"].children) == set(calls)
    for name, given in calls.items():
        node, rows = trace.node(f"text/{name}"), []
        with torch.no_grad():
            for call in given:
                answer = getattr(pipe, name)(**call, output_hidden_states=True)
                rows += zip(call["input_ids"], zip(*answer.hidden_states, strict=True), strict=True)
        assert node.sizes["layer"] == len(rows[0][1])
        for i, (ids, states) in enumerate(rows):
            ours = node.isel(branch=i, prompt=0)
            np.testing.assert_array_equal(ours["ids"][: len(ids)], ids)
            tied = "CLIP" not in type(getattr(pipe, name)).__name__  # others end with the normed states
            for layer, theirs in enumerate(states[:-1] if tied else states):
                np.testing.assert_array_equal(ours["states"][layer, : len(theirs)], theirs.half())
            if "output" in node:
                given = states[-1] if tied else answer.last_hidden_state[0]
                np.testing.assert_array_equal(ours["output"][: len(given)], given.half())


def test_states_that_lie_time_first_are_turned():
    """Kolors' ChatGLM gives [t, b, c]; two prompts tell it from [b, t, c]."""
    pipe = pipelines.load("kolors")
    said = ["a cat", "a red balloon"]
    with probe.record(pipe, words=[], text_states=True) as recording:
        pipelines.run(pipe, "kolors", prompt=said)
    node = recording.trace.node("text/text_encoder")
    read = pipe.tokenizer(said, padding="max_length", max_length=256, return_tensors="pt")
    with torch.no_grad():
        answer = pipe.text_encoder(**read, output_hidden_states=True)
    for i in range(2):
        np.testing.assert_array_equal(node["ids"].sel(branch="cond")[i], read["input_ids"][i])
        for layer, theirs in enumerate(answer.hidden_states[:-1]):
            ours = node["states"].sel(branch="cond", layer=layer)[i]
            np.testing.assert_allclose(ours, theirs[:, i].half(), rtol=1e-3, atol=1e-3)


def test_branches_and_prompts_have_their_rows():
    pipe = pipelines.pipeline("sd1")
    texts = {"prompt": ["a cat", "a red balloon"], "negative_prompt": ["a dog", "a balloon"]}
    with probe.record(pipe, words=[], text_states=[0, -1]) as recording:
        pipelines.run(pipe, "sd1", **texts)
    node = recording.trace.node("text/text_encoder")
    assert list(node["branch"].values) == ["cond", "negative"] and list(node["layer"].values) == [0, 2]
    for branch, name in (("cond", "prompt"), ("negative", "negative_prompt")):
        for i, text in enumerate(texts[name]):
            ids = pipe.tokenizer(text).input_ids
            assert node["ids"].sel(branch=branch)[i, : len(ids)].values.tolist() == ids


def test_they_are_kept_only_when_asked_for_and_counted():
    pipe = pipelines.pipeline("sdxl")
    with probe.record(pipe) as without:
        pipelines.run(pipe, "sdxl")
    with probe.record(pipe, text_states=True) as recording:
        pipelines.run(pipe, "sdxl")
    assert "text" not in without.trace.tree.children
    more = recording.trace.nbytes - without.trace.nbytes
    assert recording.estimate.parts["text states"] == pytest.approx(more, rel=0.05)


def test_a_layer_that_there_is_not_is_named():
    pipe = pipelines.load("sd1")
    before = fingerprint(pipe)
    with pytest.raises(NoMatch, match=r"text_encoder has the layers 0 to 2"), probe.record(pipe, text_states=[3]):
        pipelines.run(pipe, "sd1")
    assert fingerprint(pipe)["hooks"] == before["hooks"]


# The parts


def test_lists_inside_of_blocks_are_no_layers():
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.ModuleList([nn.Identity()]) for _ in range(2))
    model.others = nn.ModuleList(nn.Identity() for _ in range(5))
    assert stacks(model) == [model.blocks, model.others]


def test_an_encoder_without_blocks_is_refused():
    encoder = nn.Linear(2, 2)
    reader = DepthReader({"text_encoder": encoder}, True)
    handles = list(reader.hooks())
    with pytest.raises(RecordingError, match=r"no blocks of text_encoder \(Linear\)"):
        encoder(torch.zeros(1, 3, 2))
    assert len(handles) == 2


def test_values_too_large_for_half_precision_stay_whole():
    encoder = nn.Sequential(nn.ModuleList([nn.Identity(), nn.Identity()]))
    encoder.forward = lambda x: encoder[0][1](encoder[0][0](x) * 1e5)
    reader, depths = DepthReader({"text_encoder": encoder}, True), Depths()
    list(reader.hooks())
    encoder(torch.ones(2, 3, 4))
    depths.note(reader.take())
    encoded = Encoded(prompts=("a", "b"))
    node = depths.nodes(encoded)["/text/text_encoder"]
    assert node["states"].dtype == np.float32 and node["states"].shape == (1, 2, 3, 3, 4)
    assert node["states"].values[0, 0, :, 0, 0].tolist() == [1.0, 1.0, 1e5]
    assert depths.projected(encoded) == pytest.approx(node["states"].nbytes, rel=0.2) and reader.take() == {}
