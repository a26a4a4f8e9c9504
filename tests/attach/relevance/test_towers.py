"""CLIP scores and decisions: equal to explicit autograd, found where a feature was planted, and nothing left behind."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTForImageClassification

from probe.attach.relevance.towers import TowerRule, explain_classifier, explain_clip
from probe.errors import BadInput, BadModel
from probe.generator import tokenizer, weights
from tests.pipelines import parts
from tests.tokenizers import clip_tokenizer

TEXT = "a cat and a red balloon"


@pytest.fixture(scope="module")
def processor():
    return SimpleNamespace(tokenizer=clip_tokenizer(), image_processor=parts.eye_processor())


@pytest.fixture(scope="module")
def clip(processor):
    eyes, words = parts.eyes().config, parts.clip_config(processor.tokenizer)
    config = CLIPConfig(text_config=words.to_dict(), vision_config=eyes.to_dict(), projection_dim=32)
    return parts.seeded(CLIPModel, 5, config)


@pytest.fixture(scope="module")
def vit():
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    names = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    return parts.seeded(ViTForImageClassification, 6, ViTConfig(**shape, image_size=32, patch_size=8, **names))


def by_hand(attentions, y, start: int) -> np.ndarray:
    """Product of 1 + mean_heads(max(0, grad_A * A))."""
    R = torch.eye(attentions[0].shape[-1])
    gradients = torch.autograd.grad(y, attentions, retain_graph=True)
    for A, G in list(zip(attentions, gradients, strict=True))[start:]:
        R = (torch.eye(len(R)) + (A * G).clamp(min=0).mean(1)[0]) @ R
    return R.detach().numpy()


@pytest.mark.parametrize("start", [None, 0])
def test_clip_equals_explicit_autograd(clip, processor, start):
    found = explain_clip(clip, parts.picture(), text=TEXT, processor=processor, rule=TowerRule(start=start))
    ids = processor.tokenizer(TEXT, return_tensors="pt").input_ids
    pixels = processor.image_processor(images=parts.picture(), return_tensors="pt")["pixel_values"]
    clip.set_attn_implementation("eager")
    eye = clip.vision_model(pixel_values=pixels, output_attentions=True)
    ear = clip.text_model(input_ids=ids, output_attentions=True)
    clip.set_attn_implementation("sdpa")
    y = F.cosine_similarity(clip.visual_projection(eye.pooler_output), clip.text_projection(ear.pooler_output)).sum()
    first = -1 if start is None else start
    patches = by_hand(eye.attentions, y, first)[0, 1:].reshape(4, 4)
    np.testing.assert_allclose(found.patches.values, patches, rtol=1e-3, atol=1e-7)
    words = processor.tokenizer(TEXT).word_ids()
    row = by_hand(ear.attentions, y, first)[-1]
    by_word = np.array([sum(row[i] for i, n in enumerate(words) if n == word) for word in range(6)])
    np.testing.assert_allclose(found.words, by_word / by_word.sum(), rtol=1e-3)
    assert list(found.words["word"].values) == TEXT.split() and found.score == pytest.approx(y.item(), abs=1e-5)


@pytest.mark.parametrize("start", [None, 1])
def test_a_classifier_equals_explicit_autograd(vit, processor, start):
    found = explain_classifier(vit, parts.picture(), processor=processor, label="dog", rule=TowerRule(start=start))
    pixels = processor.image_processor(images=parts.picture(), return_tensors="pt")["pixel_values"]
    vit.set_attn_implementation("eager")
    out = vit(pixel_values=pixels, output_attentions=True)
    vit.set_attn_implementation("sdpa")
    expected = by_hand(out.attentions, out.logits[0, 1], start or 0)[0, 1:].reshape(4, 4)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-7)
    assert found.subject == "dog" and found.method == "relevancy"


def test_lrp_is_another_map_and_starts_behind_the_first_layer(vit, clip, processor):
    maps = [
        explain_classifier(vit, parts.picture(), processor=processor, rule=rule).values
        for rule in (TowerRule("lrp"), TowerRule("lrp", 1), TowerRule("lrp", 0), TowerRule(start=1))
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.allclose(maps[0], maps[2], rtol=1e-3) and not np.allclose(maps[0], maps[3], rtol=1e-3)
    assert float(maps[0].min()) >= 0 and float(maps[0].max()) > 0
    score = explain_clip(clip, parts.picture(), text=TEXT, processor=processor, rule=TowerRule("lrp"))
    assert score.patches.units.endswith("relevance of attention)") and float(score.patches.values.max()) > 0


def test_a_patch_that_the_decision_cannot_see_has_none(vit, processor):
    """Its values are nothing, so attending to it changes nothing, and grad_A = G V^T is 0."""
    seen = explain_classifier(vit, parts.picture(), processor=processor, label=1)

    def hidden(module, args, output):
        output = output.clone()
        output[:, 6] = 0.0
        return output

    layers = [part for name, part in vit.named_modules() if name.endswith(("value", "v_proj"))]
    handles = [part.register_forward_hook(hidden) for part in layers]
    blind = explain_classifier(vit, parts.picture(), processor=processor, label=1)
    for handle in handles:
        handle.remove()
    assert float(seen.values[1, 1]) > 0 and float(blind.values[1, 1]) == 0.0


def test_errors(vit, clip, processor):
    with pytest.raises(BadModel, match="not a CLIPModel"):
        explain_clip(vit, parts.picture(), text=TEXT, processor=processor)
    with pytest.raises(BadInput, match="no word to explain"):
        explain_clip(clip, parts.picture(), text="", processor=processor)
    with pytest.raises(BadInput, match="is not one of the 2 classes: cat, dog"):
        explain_classifier(vit, parts.picture(), processor=processor, label="theorem")
    with pytest.raises(BadInput, match="leaves none of the 3 layers"):
        explain_classifier(vit, parts.picture(), processor=processor, rule=TowerRule(start=3))


def state(model):
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    flags = [(p.requires_grad, p.grad is None) for p in model.parameters()]
    modes = (torch._C._len_torch_function_stack(), torch.is_grad_enabled())
    return hooks, flags, modes, torch.random.get_rng_state().sum().item(), model.training


@pytest.mark.parametrize("method", ["relevancy", "lrp"])
def test_nothing_is_left_on_the_model(vit, processor, method):
    before = state(vit)
    explain_classifier(vit, parts.picture(), processor=processor, rule=TowerRule(method))
    assert state(vit) == before
    handle = vit.classifier.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explain_classifier(vit, parts.picture(), processor=processor, rule=TowerRule(method))
    handle.remove()
    assert state(vit) == before


def test_menageries_own_encoders():
    """The text encoder that it draws with, beside its eyes, under one call."""
    sizes = {"size": {"shortest_edge": 128}, "crop_size": {"height": 128, "width": 128}}
    eye = parts.CLIPImageProcessor(**sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    own = SimpleNamespace(tokenizer=tokenizer.build(), image_processor=eye)
    found = explain_clip(weights.clip(), Image.new("RGB", (128, 128), (200, 60, 60)), text="a red cat", processor=own)
    assert list(found.words["word"].values) == ["a", "red", "cat"] and float(found.patches.values.max()) > 0
