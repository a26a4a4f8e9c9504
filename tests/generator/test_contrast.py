"""What both encoders are asked beside the contrast: the facts of a caption and of a scene, and what a patch shows."""

import math

import numpy as np
import pytest
import torch

from probe.generator import parts
from probe.generator.tokenizer import build
from probe.generator.train import contrast
from probe.generator.world import Caption, Mention, Scene, Thing, World
from probe.generator.world import vocabulary as v

CAT = Thing("cat", 0, 0, 64)
CAR = Thing("car", 64, 32, 32, colour="red")
DOCTOR = Thing("doctor", 64, 64, 48, gender="woman", tone="dark")
SCENE = Scene("beach", 0, (CAT, CAR, DOCTOR))


def caption(*words: tuple[str, str, int | None]) -> Caption:
    """Words with their roles and the thing each is about."""
    text, mentions = "", []
    for word, role, thing in words:
        start = len(text)
        mentions.append(Mention(start, start + len(word), role, () if thing is None else (thing,)))
        text += f"{word} "
    return Caption(text.strip(), tuple(mentions))


def test_a_scene_shows_its_kinds_their_traits_and_its_place():
    expected = {"cat", "car", "red", "red car", "doctor", "woman doctor", "beach"}
    assert contrast.shown(SCENE) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("cat", "kind", 0)], {"cat"}),
        ([("kitten", "kind", 0)], {"cat"}),
        ([("animal", "kind", 0)], set()),
        ([("crimson", "colour", 1), ("car", "kind", 1)], {"red", "car", "red car"}),
        ([("red", "colour", 1), ("object", "kind", 1)], {"red"}),
        ([("female", "gender", 2), ("doctor", "kind", 2)], {"doctor", "woman doctor"}),
        ([("cat", "kind", 0), ("shore", "place", None)], {"cat", "beach"}),
        (
            [("cat", "kind", 0), ("dog", "kind", None)],
            {"cat"},
        ),  # a thing that is not there: noise, no fact of the scene
    ],
)
def test_a_caption_says_what_its_words_say(words: list[tuple[str, str, int | None]], expected: set[str]):
    assert contrast.said(caption(*words), SCENE) == expected


def test_what_a_caption_of_the_world_says_is_shown():
    world = World(5)
    for scene in world.scenes(60):
        assert contrast.said(world.caption(scene), scene) <= contrast.shown(scene) <= set(contrast.facts())


def test_a_patch_is_told_how_much_of_it_shows_what():
    rows = contrast.painted(SCENE).reshape(8, 8, -1)
    for i, thing in enumerate(SCENE.things):
        mask = SCENE.mask(i)
        share = np.array([[mask[y : y + 16, x : x + 16].mean() for x in range(0, 128, 16)] for y in range(0, 128, 16)])
        assert np.allclose(rows[..., v.KINDS.index(thing.kind)], share)
    red = len(v.KINDS) + list(v.COLOURS).index("red")
    assert np.allclose(rows[..., red], rows[..., v.KINDS.index("car")])
    assert math.isclose(rows.sum() * 256, sum(SCENE.mask(i).sum() for i in (0, 1, 1, 2)), rel_tol=1e-5)


def test_a_batch_has_no_more_tokens_than_its_longest_caption():
    tokenizer, world = build(), World(2)
    batch = contrast.draw(world, tokenizer, 0, 6)
    lengths = [len(tokenizer(world.caption(scene).text).input_ids) for scene in world.scenes(6)]
    assert batch.ids.shape == (6, max(lengths))
    assert batch.said.shape == batch.shown.shape == (6, len(contrast.facts()))
    assert batch.painted.shape == (6, 64, len(v.KINDS) + len(v.COLOURS)) and batch.x.shape == (6, 3, 128, 128)


def test_the_contrast_is_that_of_the_cosines():
    """Against the formula in float64, from the encoders' own embeddings."""
    torch.manual_seed(0)
    tokenizer = build()
    pupil = contrast.Pupil(parts.clip(tokenizer)).eval()
    batch = contrast.draw(World(3), tokenizer, 0, 4)
    with torch.no_grad():
        losses = contrast.losses(pupil, batch)
        out = pupil.clip(pixel_values=batch.x, input_ids=batch.ids)
    scale = pupil.clip.logit_scale.detach().double().exp()
    cosines = (out.image_embeds.double() @ out.text_embeds.double().T) * scale
    for name, matrix in (("pictures", cosines), ("captions", cosines.T)):
        each = [-(matrix[i, i] - matrix[i].logsumexp(0)) for i in range(4)]
        assert float(losses[name]) == pytest.approx(float(sum(each)) / 8, rel=1e-4)
    assert {"said", "shown", "patches"} < set(losses)
