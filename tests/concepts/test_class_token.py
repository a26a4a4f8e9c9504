"""Class tokens: the picture is the pipeline's own, the gradient is right, nothing else is touched."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from probe.concepts.class_token import RATE, class_token, classifier, finished
from probe.concepts.pseudo_token import encoders, filled, gap
from probe.concepts.reconstruction import borrowed
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
    start, table = own_vectors(encoders(pipe), "a")["text_encoder"], pipe.text_encoder.get_input_embeddings().weight
    rate = RATE * float(table.detach().square().mean().sqrt())  # a step of AdamW is one rate long at the start
    assert float((found.vectors["text_encoder"] - start).abs().max()) < 3 * rate
    assert len(found.nearest(pipe, 3)) == 3
    with found.spoken(pipe) as prompt:
        assert prompt == "a photo of a * cat"
        pipe(prompt, num_inference_steps=1, height=64, width=64, output_type="latent")


@pytest.fixture(scope="module")
def vit() -> tuple[ViTForImageClassification, ViTImageProcessor]:
    """A tiny image classifier of three classes."""
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTForImageClassification(ViTConfig(image_size=32, patch_size=16, num_labels=3, **size)).eval()
    return model, ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4] * 3, image_std=[0.2] * 3)


def test_any_image_classifier_reads_as_it_does_with_its_processor(vit: Any):
    model, processor = vit
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with torch.no_grad():
        expected = model(**processor(images=Image.fromarray(pixels), return_tensors="pt")).logits
        found = classifier(model, processor)(torch.from_numpy(pixels / 255).permute(2, 0, 1)[None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(BadInput, match=r"has no image size, only \{'longest_edge': 9\}"):
        classifier(model, SimpleNamespace(size={"longest_edge": 9}))


def test_the_classifiers_weights_get_no_gradient(pipe: Any, vit: Any):
    found = class_token(pipe, "a cat", classifier(*vit), label=1, recipe=small(steps=1))
    assert len(found.losses) == 1 and all(weight.grad is None for weight in vit[0].parameters())
    assert all(weight.requires_grad for weight in vit[0].parameters())


def test_a_label_that_is_not_there(pipe: Any):
    with pytest.raises(BadInput, match="label 2 is not one of the classifier's 2; labels count from 0"):
        class_token(pipe, "a cat", redness, label=2, recipe=small())


def test_a_gradient_through_no_step_is_refused(pipe: Any):
    with pytest.raises(BadInput, match="through is 0; give how many of the last steps the gradient goes through, 1 or"):
        class_token(pipe, "a cat", redness, label=0, recipe=small(steps=1), through=0)
