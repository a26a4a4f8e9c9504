"""A tiny pipeline with few words, and one decomposition of it that all tests may look at."""

from typing import Any

import pytest

from probe.concepts.concept import Concept
from probe.concepts.decompose import decompose
from probe.concepts.recipe import Recipe
from tests import pipelines

WORDS = ("cat", "dog", "bear", "blue", "green", "house", "clock")


def small(**more: Any) -> Recipe:
    """Two pictures of two steps, two steps of learning."""
    few: dict[str, Any] = {"pictures": 2, "inference_steps": 2, "steps": 2, "batch": 2, "show": 0, "words": WORDS}
    return Recipe(**few | {"height": 64, "width": 64} | more)


@pytest.fixture(scope="session")
def pipe() -> Any:
    """Stable Diffusion 1, once called, so that it has all its attributes."""
    pipe = pipelines.load("sd1")
    pipe("a cat", num_inference_steps=1, output_type="latent", height=64, width=64)
    return pipe


@pytest.fixture(scope="session")
def found(pipe: Any) -> Concept:
    """A decomposition with pictures."""
    return decompose(pipe, "a red balloon", solver="sparse", recipe=small(show=2, show_words=1))
