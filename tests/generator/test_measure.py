"""The card's measures, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from probe.errors import BadInput
from probe.generator import parts
from probe.generator.judge import Instance, Verdict, signed
from probe.generator.measure import (
    both_present,
    describes,
    distinct,
    interval,
    peaks_inside,
    psnr,
    retrieval,
    sayable,
    sheet,
)
from probe.generator.tokenizer import build
from probe.generator.world import CONTROL, Caption, Mention, Scene, Thing, World

CAT, BLUE_CAT = Thing("cat", 4, 40, 50), Thing("cat", 4, 40, 50, colour="blue")
CAR = Thing("car", 66, 40, 50, colour="red")
CHEF = Thing("chef", 40, 40, 50, gender="woman", tone="dark")


def gray(level: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (level,) * 3)


def said(text: str, **things: int) -> Caption:
    """A caption whose named words (word=thing number) have the roles that the world would give them."""
    roles = {"cat": "kind", "animal": "kind", "car": "kind", "blue": "colour", "azure": "colour", "red": "colour"}
    roles |= {"woman": "gender", "royal": "kind", "big": "size", "dark": "tone", "beach": "place", "night": "place"}
    mentions, start = [], 0
    for word in text.split():
        role = roles.get(word, "glue")
        mentions.append(Mention(start, start + len(word), role, (things[word],) if word in things else ()))
        start += len(word) + 1
    return Caption(text, tuple(mentions))


@pytest.mark.parametrize(("other", "expected"), [(100, math.inf), (101, 48.1308), (110, 28.1308), (200, 8.1308)])
def test_psnr(other: int, expected: float):
    assert psnr(gray(100), gray(other)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_interval(hits: int, trials: int, low: float, high: float):
    assert interval(hits, trials) == pytest.approx((low, high), abs=1e-4)


def test_both_present():
    blank = np.zeros((128, 128), bool)
    cat, dog, bow = (Instance(kind, blank) for kind in ("cat", "dog", "bow"))
    verdicts = [Verdict((cat, dog, bow), "plain"), Verdict((cat,), "plain"), Verdict((cat, cat), "plain")]
    assert both_present(verdicts, [("cat", "dog"), ("cat", "dog"), ("cat", "cat")]) == [True, False, True]


def test_a_peak_is_inside_when_a_quarter_of_its_cell_is():
    mask = np.zeros((128, 128), bool)
    mask[16:24, 40:42] = True  # row 2, column 5 of 16 x 16: two of eight columns
    assert peaks_inside((2, 5), (16, 16), mask)
    assert not peaks_inside((5, 2), (16, 16), mask)
    mask[23, 41] = False
    assert not peaks_inside((2, 5), (16, 16), mask)


@pytest.mark.parametrize(
    ("caption", "things", "true"),
    [
        (said("a cat", cat=0), (CAT,), True),
        (said("a cat", cat=0), (CAR,), False),
        (said("a blue cat", blue=0, cat=0), (CAT,), False),
        (said("an azure cat", azure=0, cat=0), (BLUE_CAT,), True),
        (said("a red animal", red=0, animal=0), (CAT, CAR), False),  # red and an animal, but not in one thing
        (said("an animal", animal=0), (CAR, CAT), True),
        (said("a cat and a red car", cat=0, red=1, car=1), (CAR, BLUE_CAT), True),
        (said("a cat and a red car", cat=0, red=1, car=1), (CAT,), False),
        (said("a royal cat", royal=0, cat=0), (CAT,), True),
        (said("a big cat", big=0, cat=0), (CAT,), False),
        (said("a woman with dark skin", woman=0, dark=0), (CHEF,), True),
        (said("a cat on the beach", cat=0), (CAT,), True),
        (said("a cat at night", cat=0), (CAT,), False),
    ],
)
def test_describes(caption: Caption, things: tuple[Thing, ...], true: bool):
    assert describes(caption, Scene("beach", 0, things)) is true


def test_captions_describe_their_own_scenes():
    world = World(9, CONTROL)
    assert all(describes(world.caption(scene), scene) for scene in world.scenes(300))


def test_sayable_words():
    assert sayable(CHEF)["gender"] == {"woman", "lady", "female"}
    assert sayable(CHEF)["tone"] == {"dark"}
    assert sayable(CAR)["colour"] == {"red", "crimson", "scarlet"}
    assert sayable(CAT)["colour"] == sayable(CAT)["size"] == set()


def test_distinct_captions_are_true_of_their_own_scene_only():
    pairs = distinct(World(9, CONTROL), 30)
    assert len(pairs) == 30
    table = [[describes(caption, scene) for scene, _ in pairs] for _, caption in pairs]
    assert np.array_equal(table, np.eye(30, dtype=bool))


def test_too_few_distinct_captions_are_an_error(monkeypatch: pytest.MonkeyPatch):
    world = World(9, CONTROL)
    monkeypatch.setattr(world, "caption", lambda scene: Caption("a scene", ()))
    with pytest.raises(BadInput, match="only 1 of 20 captions differ in meaning, 5 are needed"):
        distinct(world, 5)


def test_retrieval_counts_the_closest_captions():
    """With an untrained model, the same answer as comparing each picture and caption alone."""
    torch.manual_seed(0)
    tokenizer = build()
    clip = parts.clip(tokenizer).eval()
    pairs = [(scene, World(9).caption(scene)) for scene in World(9).scenes(4)]
    with torch.no_grad():
        pictures = [clip.get_image_features(signed(scene.picture)[None]).pooler_output for scene, _ in pairs]
        tokens = [tokenizer(caption.text, return_tensors="pt").input_ids for _, caption in pairs]
        texts = [clip.get_text_features(ids).pooler_output for ids in tokens]
    scores = [[torch.cosine_similarity(picture, text).item() for text in texts] for picture in pictures]
    expected = [int(np.argmax(row)) == i for i, row in enumerate(scores)]
    assert retrieval(clip, tokenizer, pairs) == expected


def test_a_sheet_holds_every_picture():
    rows = [
        ("a cat", [gray(10).resize((128, 128)), gray(20).resize((128, 128))]),
        ("a dog", [gray(30).resize((128, 128))]),
    ]
    page = sheet(rows)
    assert page.size == (256, 2 * 146)
    assert [page.getpixel(at) for at in ((64, 100), (200, 100), (64, 250))] == [(10,) * 3, (20,) * 3, (30,) * 3]
    assert page.getpixel((200, 250)) == (255, 255, 255)
    assert np.asarray(page)[:18, :60].min() < 100  # the prompt is written above
