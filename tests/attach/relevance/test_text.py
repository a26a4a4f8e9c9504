"""Back through the text encoders: equal to explicit autograd, causal where the encoder is, block by block."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import probe
from probe.attach.asked.inquiry import Scene
from probe.attach.relevance.relevant import Relevancy
from probe.attach.relevance.text import TextPath
from probe.attach.text.encode import encode
from probe.attach.text.lexicon import dictionary
from probe.errors import BadInput
from tests import pipelines
from tests.fingerprint import fingerprint

scenes: list[Scene] = []


class Look(Relevancy):
    """Keeps the scene that an inquiry is given, and reads nothing."""

    def wants(self, step):
        return False

    def begin(self, scene):
        scenes.append(scene)
        return super().begin(scene)


def encoded(family: str) -> tuple[Scene, torch.Tensor]:
    """A scene of this family, and the text states of its prompt."""
    pipe = pipelines.pipeline(family)
    states: list[torch.Tensor] = []

    def hear(module, args, kwargs):
        states.append(kwargs["encoder_hidden_states"][-1])

    handle = (getattr(pipe, "unet", None) or pipe.transformer).register_forward_pre_hook(hear, with_kwargs=True)
    with probe.record(pipe, explain=Look()):
        pipelines.run(pipe, family, num_inference_steps=1)
    handle.remove()
    return scenes.pop(), states[0]


@pytest.fixture(scope="module")
def sd():
    scene, states = encoded("sd1")
    return scene, states, torch.randn(states.shape, generator=torch.Generator().manual_seed(3))


def test_equals_explicit_autograd(sd):
    """The rule by hand, on attention that transformers itself returns."""
    scene, states, G = sd
    encoder = pipelines.load("sd1").text_encoder
    encoder.set_attn_implementation("eager")
    out = encoder(torch.tensor([scene.prompts[0].ids("text_encoder")]), output_attentions=True)
    torch.testing.assert_close(out.last_hidden_state[0], states, atol=1e-5, rtol=0)
    gradients = torch.autograd.grad((out.last_hidden_state[0] * G).sum(), out.attentions)
    R = torch.eye(77)
    for A, grad in zip(out.attentions, gradients, strict=True):
        R = R + (A * grad).clamp(min=0).mean(1)[0] @ R
    R_hat = (R - torch.eye(77)).detach()
    expected = torch.eye(77) + R_hat / R_hat.sum(1, keepdim=True).clamp(min=1e-30)
    torch.testing.assert_close(TextPath(scene, 0).back(states, G), expected, atol=1e-4, rtol=1e-3)


def test_rows_and_causality(sd):
    """A state rests on itself by one, on those before it by one in all, and on none behind it."""
    scene, states, G = sd
    R = TextPath(scene, 0).back(states, G)
    sums = R.sum(1)
    assert bool(((sums - 2).abs() < 1e-4).logical_or((sums - 1).abs() < 1e-4).all()) and float(sums.max()) > 1.9
    assert float(R.triu(1).abs().max()) == 0.0 and float(R.diagonal().min()) >= 1.0


def test_no_gradient_leads_nowhere(sd):
    scene, states, G = sd
    assert torch.equal(TextPath(scene, 0).back(states, G * 0), torch.eye(77))


def test_encoders_side_by_side_are_weighted_and_those_behind_are_blocks_of_their_own():
    scene, states = encoded("sd3")
    G = torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
    R = TextPath(scene, 0).back(states, G)
    start = dictionary(scene.prompts[0], scene.family).starts["text_encoder_3"]
    assert float(R[:start, start:].abs().max()) == 0.0 == float(R[start:, :start].abs().max())
    assert float(R[start:, start:].triu(1).max()) > 0  # T5 reads both ways
    halves = []
    for part in (slice(0, 32), slice(32, 64)):  # the channels of one CLIP encoder, then of the other
        only = torch.zeros_like(G)
        only[:start, part] = G[:start, part]
        halves.append(TextPath(scene, 0).back(states, only)[:start, :start])
    low, high = torch.minimum(*halves), torch.maximum(*halves)
    assert bool((R[:start, :start] >= low - 1e-5).all() and (R[:start, :start] <= high + 1e-5).all())
    assert float((high - low).max()) > 0.01


@pytest.mark.parametrize("family", ["qwen_image", "flux2_klein"])
def test_language_models_are_causal_behind_their_template(family):
    scene, states = encoded(family)
    R = TextPath(scene, 0).back(states, torch.randn(states.shape, generator=torch.Generator().manual_seed(3)))
    assert R.shape == (len(states), len(states))
    assert float(R.triu(1).abs().max()) == 0.0 and float(R.tril(-1).max()) > 0


def test_states_that_the_prompt_does_not_make_are_an_error(sd):
    scene, states, G = sd
    with pytest.raises(BadInput, match=r"could not be made again.*through_text=False"):
        TextPath(scene, 0).back(states + 1, G)


def test_a_pipeline_without_a_way_to_encode_says_what_to_do(sd):
    scene, states, G = sd
    mute = replace(scene, pipe=SimpleNamespace(components=scene.pipe.components))
    with pytest.raises(BadInput, match=r"no encode_prompt.*Relevancy\(through_text=False\)"):
        TextPath(mute, 0).back(states, G)


def test_the_older_kind_of_encoding_is_gone_back_through_too():
    scene, _ = encoded("instruct_pix2pix")
    states = encode(scene, pipelines.PROMPT, like=scene.prompts[0]).states
    R = TextPath(scene, 0).back(states, torch.randn(states.shape, generator=torch.Generator().manual_seed(3)))
    assert float(R.triu(1).abs().max()) == 0.0 and float(R.tril(-1).max()) > 0


def test_nothing_is_left_on_the_encoders(sd):
    scene, states, G = sd
    before = fingerprint(scene.pipe)
    TextPath(scene, 0).back(states, G)
    assert fingerprint(scene.pipe) == before
    with pytest.raises(BadInput):
        TextPath(scene, 0).back(states + 1, G)
    assert fingerprint(scene.pipe) == before
