"""Measures against hand-computed values, and Menagerie's own eyes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.concepts.concept import Concept
from probe.concepts.eyes import Eyes
from probe.concepts.measures import (
    MEASURES,
    agreement,
    distance,
    diversity,
    faithfulness,
    kid,
    measured,
    overlap,
    stability,
)
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.tokenizer import build
from probe.study.scorers import picture_embedding


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes(weights.clip(), build())


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (128, 128, 3), np.uint8))


def concept(*words: str) -> Concept:
    return Concept("a pet", words, tuple(1.0 / (i + 1) for i in range(len(words))), {})


def test_kid_by_hand():
    x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    within = 1.0 + 1.5**3  # k(x1, x2) = 1; k(y1, y2) = (1/2 + 1)^3
    between = 2 * (1.5**3 + 1.0) / 2
    assert kid(x, y) == pytest.approx(within - between)
    assert kid(np.eye(4)[:3], np.eye(4)[:3]) < 0.0 < kid(np.eye(4)[:3], -10 * np.eye(4)[:3])


def test_equal_pictures_are_alike_and_others_less(eyes: Eyes):
    same, other = [noise(0), noise(1)], [Image.new("RGB", (128, 128), "red"), Image.new("RGB", (64, 64), "blue")]
    equal = faithfulness(eyes, same, same)
    assert equal.cosine == pytest.approx(1.0, abs=1e-5)
    assert equal.distance == pytest.approx(0.0, abs=1e-9)
    assert equal.pictures == 2
    unlike = faithfulness(eyes, same, other)
    assert unlike.cosine < equal.cosine
    assert unlike.distance > equal.distance
    assert distance(eyes, same[:1], same[1:]) > 0


def test_the_eyes_see_what_the_scorer_sees(eyes: Eyes):
    assert np.allclose(eyes.pictures([noise(3)])[0], picture_embedding(noise(3)), atol=1e-5)
    assert np.allclose(np.linalg.norm(eyes.texts(["a cat", "a dog"]), axis=1), 1.0, atol=1e-6)


def test_pairs_are_needed(eyes: Eyes):
    with pytest.raises(BadInput, match="got 1 pictures of the concept and 2 of its decomposition"):
        faithfulness(eyes, [noise(0)], [noise(0), noise(1)])
    with pytest.raises(BadInput, match="stability is over seeds; got 1"):
        stability([concept("cat")])


def test_overlap_and_stability():
    a, b, c = concept("cat", "dog"), concept("dog", "cow"), concept("dog", "cat")
    assert overlap(a, b, 2) == 0.5
    assert overlap(a, c, 2) == 1.0
    assert stability([a, b, c], 2) == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert agreement([["cat", "dog"], ["dog", "cow"], ["dog", "cat"]], 2) == stability([a, b, c], 2)


def test_diversity_is_the_mean_distance_of_words(eyes: Any):
    first, second = eyes.texts(["cat", "snow"])
    assert diversity(eyes, concept("cat", "snow")) == pytest.approx(1 - float(first @ second), abs=1e-6)
    assert diversity(eyes, concept("cat")) == 0.0


def test_a_concept_keeps_its_measures(eyes: Eyes):
    drawn, mixed = (noise(0), noise(1)), (noise(1), noise(2))
    held = replace(concept("cat", "snow"), pictures={"concept": drawn, "decomposition": mixed}, provenance={"seed": 3})
    told = measured(held, eyes).provenance
    assert told["seed"] == 3
    assert told[MEASURES]["cosine"] == pytest.approx(faithfulness(eyes, drawn, mixed).cosine)
    assert told[MEASURES]["diversity"] == pytest.approx(diversity(eyes, held))
    assert MEASURES not in measured(replace(held, pictures={"concept": drawn}), eyes).provenance
