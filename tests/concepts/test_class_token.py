"""Class tokens: the picture is the pipeline's own, the gradient is right, nothing else is touched."""

from typing import Any

import pytest
import torch
from torch import Tensor

from probe.concepts.bench import borrowed
from probe.concepts.class_token import RATE, class_token, finished
from probe.concepts.speech import encoders, filled, gap
from probe.concepts.vocabulary import own_vectors
from probe.errors import BadInput
from tests.concepts.conftest import small
from tests.fingerprint import fingerprint


def redness(pictures: Tensor) -> Tensor:
    """A classifier of two classes: red, and the rest."""
    red = pictures[:, 0].mean((1, 2)) - pictures[:, 1:].mean((1, 2, 3))
    return torch.stack([10 * red, torch.zeros_like(red)], 1)


def test_the_picture_is_the_pipelines_own(pipe: Any):
    noise = torch.Generator().manual_seed(3)
    call = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt"}
    plain = pipe("a cat", generator=noise, **call).images
    assert torch.equal(finished(pipe, "a cat", 3, small(), through=1).detach(), plain)


def test_the_gradient_goes_through_the_last_step(pipe: Any):
    heard = encoders(pipe)
    hole = gap("a cat", "a photo of {}", heard)
    start = own_vectors(heard, "a red cat")["text_encoder"]
    step = torch.zeros_like(start)
    step[0, 5] = 0.02

    def value(vector: Tensor) -> Tensor:
        with borrowed(pipe, heard), filled(hole, heard, {"text_encoder": vector}):
            return finished(pipe, hole.text, 0, small(inference_steps=1), through=1).square().mean()

    leaf = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    slope = float((value(start + step) - value(start - step)).detach()) / 0.04
    assert float(gradient[0, 5]) == pytest.approx(slope, rel=0.1, abs=1e-5)


def test_a_token_is_learned_and_nothing_else_moves(pipe: Any):
    before = fingerprint(pipe)
    found = class_token(pipe, "a cat", redness, label=0, recipe=small(steps=2))
    assert fingerprint(pipe) == before
    assert len(found.losses) == len(found.accuracies) <= 2
    assert found.hole.text == "a photo of a * cat"
    start = own_vectors(encoders(pipe), "a")["text_encoder"]
    assert float((found.vectors["text_encoder"] - start).abs().max()) < 3 * RATE
    assert len(found.nearest(pipe, 3)) == 3
    with found.spoken(pipe) as prompt:
        assert prompt == "a photo of a * cat"
        pipe(prompt, num_inference_steps=1, height=64, width=64, output_type="latent")


def test_a_label_that_is_not_there(pipe: Any):
    with pytest.raises(BadInput, match="label 2 is none of the classifier's 2, which count from 0"):
        class_token(pipe, "a cat", redness, label=2, recipe=small())
