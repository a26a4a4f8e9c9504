"""Concepts beside the picture: scores re-computed by hand, and a picture that never notices."""

from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.attach.asked.concepts import ConceptReader
from probe.attach.asked.inquiry import Scene
from probe.attach.asked.rerun import Beside, conditional
from probe.attach.change.gradient import without_weight_gradients
from probe.attach.model.attention import attention_modules
from probe.attach.model.families import denoiser, family
from probe.attach.text.encode import encode
from probe.attach.text.rows import Row
from probe.attach.waist import Call, Waist
from probe.errors import BadInput
from probe.words import read_prompt
from tests import pipelines
from tests.fingerprint import fingerprint

WORDS = ["cat", "red", "balloon", "zebra"]


def recorded(name: str, **call: Any) -> Any:
    pipe = pipelines.pipeline(name)
    with probe.record(pipe, explain=probe.Concepts(words=("zebra",), steps=(0,))) as recording:
        picture = pipelines.run(pipe, name, **call)
    return picture, recording.trace


@pytest.mark.parametrize(("name", "grids"), [("sd1", ["16x24", "4x6", "8x12"]), ("sd3", ["8x12"]), ("flux1", ["8x12"])])
def test_words_beyond_the_prompt_leave_the_picture_as_it_is(name: str, grids: list[str], monkeypatch: Any):
    seen: list[tuple[Beside, torch.Tensor]] = []
    predict = Beside.predict

    def keeping(self: Beside, *args: Any, **options: Any) -> torch.Tensor:
        seen.append((self, predict(self, *args, **options)))
        return seen[-1][1]

    monkeypatch.setattr(Beside, "predict", keeping)
    picture, trace = recorded(name)
    assert np.array_equal(picture, pipelines.run(pipelines.pipeline(name), name))
    beside, both = seen[0]
    with torch.no_grad():
        alone = predict(beside, beside.states[None])
    np.testing.assert_allclose(both[1], both[0], atol=1e-5)  # the concepts' row holds the same picture
    np.testing.assert_allclose(both[0], alone[0], atol=1e-5)  # and it is that of the pipeline
    nodes = {path.removeprefix("/concepts/"): trace.node(path) for path in trace.tree.groups if "/concepts/" in path}
    assert sorted(nodes) == sorted(grids)
    for node in nodes.values():
        assert list(node["word"].values) == WORDS and node["score"].dims[-2:] == ("y", "x")
        assert bool(np.isfinite(node["score"]).all()) and float(node["score"].std("word").max()) > 0


def scene(name: str, prompt: str) -> tuple[Scene, torch.Tensor]:
    """A scene of one prompt, and its text states."""
    pipe = pipelines.pipeline(name)
    with probe.record(pipe) as recording:
        pipelines.run(pipe, name, prompt=prompt, num_inference_steps=1)
    trace = recording.trace
    lengths = {e: sum(t.encoder == e for t in trace.tokens) for e in dict.fromkeys(t.encoder for t in trace.tokens)}
    read = read_prompt(prompt, {}).model_copy(
        update={"words": trace.words, "tokens": trace.tokens, "lengths": lengths, "fallen": {}}
    )
    told = {"prompt": prompt, "prompt_2": None, "prompt_3": None, "device": "cpu"}
    own = Scene(pipe, family(pipe), [read], [pipelines.FAMILIES[name].call | told])
    return own, encode(own, prompt, like=read).states


def calls(module: torch.nn.Module, given: dict[str, Any]) -> dict[str, Call]:
    """Every first call of every attention module in a plain pass."""
    found: dict[str, Call] = {}
    waist = Waist(lambda call, lse: found.setdefault(call.path, call) and None, lambda path: True)
    handles = [h for path, part in attention_modules(module).items() for h in waist.hooks(part, path)]
    with torch.no_grad():
        module.forward(**given)
    for handle in handles:
        handle.remove()
    return found


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """[n, h * d] in float64, of one row [1, h, n, d]."""
    q, k, v = (x.double() for x in (q, k, v))
    return (((q @ k.transpose(-1, -2)) * scale).softmax(-1) @ v)[0].transpose(0, 1).flatten(1)


def looked(own: Scene, given: dict[str, Any], words: list[str]) -> ConceptReader:
    reader = ConceptReader(own, lambda step: True, words)
    module = denoiser(own.pipe)[1]
    with without_weight_gradients(module):
        reader.look(next(conditional(module, given, [Row("cond", 0, 0)], own.family)), 0)
    return reader


def test_in_a_unet_the_prompts_own_word_has_its_own_saliency():
    own, states = scene("sd1", "cat")  # encoded alone, it is the prompt
    x = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    given = {"sample": x, "timestep": torch.tensor(500), "encoder_hidden_states": states[None]}
    reader = looked(own, given, ["cat", "dog"])
    call = calls(own.pipe.unet, given)[path := "down_blocks.0.attentions.0.transformer_blocks.0.attn2"]
    o = attended(call.q, call.k, call.v, call.scale)
    value = call.v[0, :, 1].double().flatten()  # the token behind <start>
    expected = (o @ value).unflatten(0, (16, 24))
    np.testing.assert_allclose(reader.scores[16, 24][f"unet.{path}"][0, 0][0], expected, atol=1e-4, rtol=1e-4)


def test_in_a_joint_block_concepts_ask_the_picture_and_one_another():
    own, states = scene("sd3", "cat")
    x = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    pooled = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    given = {"hidden_states": x, "timestep": torch.tensor([500.0]), "pooled_projections": pooled}
    reader = looked(own, given | {"encoder_hidden_states": states[None]}, ["cat", "dog"])
    row, used = reader._row(
        next(
            conditional(
                own.pipe.transformer, given | {"encoder_hidden_states": states[None]}, [Row("cond", 0, 0)], own.family
            )
        )
    )
    first = "transformer_blocks.0.attn"  # where the picture does not depend on the text yet
    true, aside = (
        calls(own.pipe.transformer, given | {"encoder_hidden_states": s[None]})[first] for s in (states, row)
    )
    cells, asking = slice(0, 96), slice(96, 96 + used[-1][-1] + 1)
    o = attended(true.q[:, :, cells], true.k, true.v, true.scale)
    k, v = (torch.cat([a[:, :, asking], t[:, :, cells]], 2) for a, t in ((aside.k, true.k), (aside.v, true.v)))
    heard = attended(aside.q[:, :, asking], k, v, true.scale)
    expected = torch.stack([heard[own].mean(0) for own in used]) @ o.T
    found = reader.scores[8, 12][f"transformer.{first}"][0, 0]
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-4, rtol=1e-4)


def test_one_concept_is_set_against_nothing():
    pipe = pipelines.pipeline("sd1")
    with pytest.raises(BadInput, match="background"), probe.record(pipe, explain=probe.Concepts()):
        pipelines.run(pipe, "sd1", prompt="cat")
    many = probe.Concepts(words=tuple(f"zebra {i}" for i in range(40)))
    with pytest.raises(BadInput, match="more than the 77"), probe.record(pipe, explain=many):
        pipelines.run(pipe, "sd1")


@pytest.mark.parametrize("asked", [probe.Concepts(words=("zebra",)), probe.Ablation()])
def test_models_that_read_their_text_in_parts_say_so(asked: Any):
    pipe = pipelines.pipeline("lumina2")
    with pytest.raises(BadInput, match="as one sequence"), probe.record(pipe, explain=asked):
        pipelines.run(pipe, "lumina2")


class Fault(RuntimeError):
    """An injected error."""


def test_nothing_is_left_behind_when_it_fails(monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.load("sd1")
    pipelines.run(pipe, "sd1")
    marks = fingerprint(pipe)
    with probe.record(pipe, explain=probe.Concepts(words=("zebra",), steps=(0,))):
        pipelines.run(pipe, "sd1")
    assert fingerprint(pipe) == marks

    def broken(*_: object) -> None:
        raise Fault("injected")

    monkeypatch.setattr("probe.attach.asked.concepts.plain", broken)
    with pytest.raises(Fault), probe.record(pipe, explain=probe.Concepts(steps=(0,))):
        pipelines.run(pipe, "sd1")
    assert fingerprint(pipe) == marks
