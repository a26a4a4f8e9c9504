"""Targets: what is seen at a step, in the scheduler's own terms, and the named scalars of it."""

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

from probe.attach.model.prediction import Level
from probe.attach.relevance.targets import TARGETS, ClipSimilarity, Seen
from probe.errors import BadInput
from tests import pipelines
from tests.pipelines import parts
from tests.tokenizers import clip_tokenizer

ALPHA, SIGMA = 0.6, 0.8


def draw(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed))


def seen(**more) -> Seen:
    return Seen(**({"output": draw(0), "other": draw(1), "latents": draw(2), "level": LEVEL, "vae": None} | more))


LEVEL = Level("epsilon", ALPHA, SIGMA, scale=3.0)


def test_the_predicted_picture_is_that_of_the_guided_prediction():
    guided = draw(1) + 5 * (draw(0) - draw(1))
    torch.testing.assert_close(seen(scale=5.0).x0, (draw(2) - SIGMA * guided) / ALPHA)
    torch.testing.assert_close(seen(other=None, scale=5.0).x0, (draw(2) - SIGMA * draw(0)) / ALPHA)


def test_named_targets_are_half_the_squared_norm_in_the_box():
    box = (0.5, 0.25, 1.0, 1.0)
    part = (slice(None), slice(None), slice(2, 8), slice(6, 12))
    whole = seen(box=box)
    expected = {"guidance": draw(0) - draw(1), "output": draw(0), "x0": whole.x0}
    assert set(expected) == set(TARGETS)
    for name, plane in expected.items():
        torch.testing.assert_close(TARGETS[name](whole), (plane[part] ** 2).sum() / 2)


def test_what_is_not_there_is_an_error():
    with pytest.raises(BadInput, match="needs both branches"):
        TARGETS["guidance"](seen(other=None))
    with pytest.raises(BadInput, match=r"let the target look at seen\.x0"):
        print(seen().picture)
    with pytest.raises(BadInput, match="holds no cell of 8 x 12"):
        TARGETS["output"](seen(box=(0.5, 0.5, 0.5, 0.6)))


def test_similarity_is_that_of_the_clip_model_itself():
    vae, tokenizer = pipelines.pipeline("sd1").vae, clip_tokenizer()
    config = CLIPConfig(
        text_config=parts.clip_config(tokenizer).to_dict(),
        vision_config=parts.eyes().config.to_dict() | {"image_size": 32},
        projection_dim=32,
    )
    clip = parts.seeded(CLIPModel, 5, config)
    output = draw(0).requires_grad_(True)
    shown = seen(output=output, other=None, vae=vae)
    target = ClipSimilarity(clip, tokenizer, "a red cat", mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = F.interpolate(
        vae.decode(shown.x0 / vae.config.scaling_factor).sample, (32, 32), mode="bicubic", antialias=True
    )
    ids = tokenizer("a red cat", padding="max_length", return_tensors="pt").input_ids
    out = clip(input_ids=ids, pixel_values=pixels.clamp(-1, 1))
    value = target(shown)
    assert value.item() == pytest.approx((out.logits_per_image / clip.logit_scale.exp()).item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(value, output)
    assert float(gradient.abs().max()) > 0 and target.name == "similarity to 'a red cat'"
