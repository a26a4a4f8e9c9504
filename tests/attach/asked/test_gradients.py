"""Attributions by Captum: exact on a linear target, complete where promised, and the model is given back."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import probe
from experiments.bench_explain import ATTRIBUTIONS, GIBIBYTES, Live, counted
from probe.attach.asked.gradients import RULES, Gradients, Question, attribute, latent_question, text_question
from probe.errors import BadInput, NotRecorded
from tests import pipelines
from tests.fingerprint import fingerprint, modules_of

SMALL: dict[str, Any] = {"num_inference_steps": 1, "height": 32, "width": 48}
PROMISED = [name for name, rule in RULES.items() if rule.complete]


def linear(question: Question) -> tuple[Tensor, Any]:
    """A linear target's weights, and the target."""
    w = torch.randn(question.x.shape, generator=torch.Generator().manual_seed(1))
    return w, lambda x: (x * w).flatten(1).sum(1)


def questions() -> list[Question]:
    rng = torch.Generator().manual_seed(0)
    states, baseline = torch.randn(6, 3, generator=rng), torch.randn(6, 3, generator=rng)
    latents = torch.randn(2, 5, 8, generator=rng)  # the last row of squares is cut off
    return [text_question(states, baseline, [[1, 4], [2]]), latent_question(latents, gradient=False)]


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("rank", [0, 1])
def test_on_a_linear_target_every_group_gets_its_own_part(method: Any, rank: int):
    question = questions()[rank]
    w, forward = linear(question)
    found = attribute(Gradients(method=method, samples=3, at_once=2), forward, question)
    rule = RULES[method]
    expected = {"saliency": w, "input_x_gradient": w * question.x}.get(method, w * (question.x - question.baseline))
    if rule.groups:
        groups = getattr(question, rule.groups).expand_as(w).flatten()
        sums = [torch.zeros(int(groups.max()) + 1).index_add(0, groups, x.flatten()) for x in (found, expected)]
        torch.testing.assert_close(*sums, atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_words_are_taken_away_together():
    features = questions()[0].features[0, :, 0].tolist()
    assert features[1] == features[4] and len(set(features)) == 5


def test_noise_is_drawn_from_the_seed_and_nowhere_else():
    question = questions()[0]
    w, forward = linear(question)
    before = torch.random.get_rng_state()
    asked = Gradients(method="input_x_gradient", noise=0.5, noisy=3)
    first, second = (attribute(asked, forward, question) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.random.get_rng_state(), before)
    assert float((first - w * question.x).abs().max()) > 1e-3
    smooth = attribute(Gradients(method="saliency", noise=0.5), forward, question)
    torch.testing.assert_close(smooth, w)  # a linear target has one slope


def recorded(name: str, asked: Gradients, **call: Any) -> Any:
    pipe = pipelines.pipeline(name)
    with probe.record(pipe, explain=asked) as recording:
        pipelines.run(pipe, name, **SMALL | call)
    return recording.trace.node(f"gradients/{asked.on}")


@pytest.mark.parametrize("method", PROMISED)
def test_scores_of_words_and_special_tokens_sum_to_the_target(method: Any):
    node = recorded("sd1", Gradients(method=method, on="text", steps=(0,), samples=24)).isel(step=0, image=0)
    assert list(node["word"].values) == ["a", "cat", "and", "a#2", "red", "balloon", "<start>", "<end>", "<padding>"]
    assert float(node["baseline"]) == pytest.approx(0.0, abs=1e-5)  # the other branch's text gives the other branch
    change = float(node["value"] - node["baseline"])
    assert change > 0 and abs(float(node["delta"])) < 0.05 * change
    assert float(node["score"].sum()) == pytest.approx(change + float(node["delta"]), rel=1e-3)
    assert node.attrs["complete"] == 1 and node.attrs["target"] == "guidance"


def test_input_times_gradient_equals_autograd():
    pipe, given = pipelines.pipeline("sd1"), []
    hook = pipe.unet.register_forward_pre_hook(lambda m, a, k: given.append((a, k)), with_kwargs=True, prepend=True)
    asked = Gradients(method="input_x_gradient", on="text", target="output", steps=(0,), box=(0.0, 0.0, 0.5, 1.0))
    node = recorded("sd1", asked)
    hook.remove()
    (sample, timestep), more = given[0]
    states = more["encoder_hidden_states"][1:].detach().requires_grad_(True)
    out = pipe.unet(sample[1:], timestep, states).sample
    ((out[..., : out.shape[-1] // 2] ** 2).sum() / 2).backward()
    pipe.unet.zero_grad()
    for parameter in pipe.unet.parameters():
        parameter.grad = None
    assert states.grad is not None
    expected = (states * states.grad)[0].sum(-1)[2]  # "cat" is the second word
    np.testing.assert_allclose(node["score"].sel(word="cat"), [[float(expected.detach())]], rtol=1e-3)


@pytest.mark.parametrize("name", ["sd1", "flux1"])
def test_maps_of_words_on_the_latents(name: str):
    node = recorded(name, Gradients(steps=(0,), samples=8))
    assert list(node["word"].values) == ["cat", "red", "balloon"] and node["map"].dims[-2:] == ("y", "x")
    assert node["map"].shape[-2:] == (8, 12)
    np.testing.assert_allclose(node["map"].sum(("y", "x")), node["value"] - node["baseline"] + node["delta"], rtol=1e-3)


def test_bad_input_says_what_to_ask_for():
    with pytest.raises(BadInput, match="takes no gradient"):
        recorded("sd1", Gradients(method="occlusion", noise=0.1))
    with pytest.raises(BadInput, match="target='output'"):
        recorded("sd1", Gradients(on="text"), guidance_scale=1.0)
    with pytest.raises(BadInput, match="integrated_gradients"):
        recorded("flux1", Gradients(method="occlusion"))


class Fault(RuntimeError):
    """An injected error."""


def test_nothing_is_left_behind_and_the_picture_stays(monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.load("sd1")
    plain = pipelines.run(pipe, "sd1", **SMALL)
    marks = fingerprint(pipe)
    with probe.record(pipe, explain=Gradients(on="text", samples=2)):
        assert np.array_equal(pipelines.run(pipe, "sd1", **SMALL), plain)
    assert fingerprint(pipe) == marks

    def broken(*_: object) -> None:
        raise Fault("injected")

    monkeypatch.setattr("probe.attach.asked.gradients.attribute", broken)
    with pytest.raises(Fault), probe.record(pipe, explain=Gradients(on="text")):
        pipelines.run(pipe, "sd1", **SMALL)
    assert fingerprint(pipe) == marks


def test_several_attributions_of_one_run_have_labels():
    asked = [Gradients(method="saliency", steps=(0,)), Gradients(method="input_x_gradient", label="slope", steps=(0,))]
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe, explain=asked) as recording:
        pipelines.run(pipe, "sd1", **SMALL)
    first, second = (probe.gradients(recording.trace, "cat", label=label) for label in ("latents", "slope"))
    assert (first.provenance["method"], second.provenance["method"]) == ("saliency", "input_x_gradient")
    with pytest.raises(NotRecorded, match=r"explain=probe.Gradients\(label='other'\)"):
        probe.gradients(recording.trace, "cat", label="other")


def test_live_bytes_are_those_of_the_graph():
    x = torch.randn(1000, requires_grad=True)
    with Live() as live:
        y = x
        for _ in range(10):
            y = y.exp().clamp(max=1)  # keeps what exp gave, 4000 bytes
    assert sum(live.held.values()) == 44_000 and live.most == 48_000


@pytest.mark.parametrize(("family", "share"), [("sd1", 0.65), ("sdxl", 0.45), ("sd3", 1.0), ("flux1", 0.75)])
def test_blocks_that_run_again_say_the_same_in_less_memory(family: str, share: float):
    """Of these tiny models the text encoders hold much, of SD3's three the most; convolutions may take scratch."""
    pipe, call = pipelines.load(family), SMALL | {"height": 64, "width": 64, "output_type": "latent"}
    pipelines.run(pipe, family, **call)
    before, found, most = fingerprint(pipe), [], []
    parts = modules_of(pipe)
    there = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]  # views of them are not made
    for checkpoints in (False, True):
        asked = Gradients(method="input_x_gradient", on="text", target="output", steps=(0,), checkpoints=checkpoints)
        with probe.record(pipe, words=[], explain=asked) as recording, Live(there) as live:
            pipelines.run(pipe, family, **call)
        found.append(probe.token_scores(recording.trace).values)
        most.append(live.most)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-7)
    assert most[1] < share * most[0]
    assert fingerprint(pipe) == before


def test_attributions_of_stable_diffusion_fit_into_eight_gibibytes():
    """Counted over shapes, weights included; a gibibyte is left for text encoder, autoencoder and libraries."""
    asked = ATTRIBUTIONS["integrated gradients of the latents"]
    assert counted(asked) < GIBIBYTES - 1
