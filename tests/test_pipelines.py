"""The tiny pipelines themselves: real classes, saved and loaded, the same twice, and moved by their prompt."""

import numpy as np
import pytest
from diffusers import DiffusionPipeline

from tests import pipelines
from tests.pipelines import FAMILIES

ALL = tuple(FAMILIES)


@pytest.fixture(scope="module", params=ALL)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipe(family: str) -> DiffusionPipeline:
    return pipelines.pipeline(family)


@pytest.fixture(scope="module")
def output(family: str, pipe: DiffusionPipeline) -> np.ndarray:
    return pipelines.run(pipe, family)


def test_is_a_class_of_diffusers(family: str, pipe: DiffusionPipeline) -> None:
    assert type(pipe).__module__.startswith("diffusers.pipelines")
    assert (pipelines.folder(family) / "model_index.json").exists()
    assert not list(pipelines.folder(family).rglob("*.bin"))


def test_gives_a_picture_that_is_not_square(family: str, output: np.ndarray) -> None:
    assert output.shape[-3:] == (pipelines.HEIGHT, pipelines.WIDTH, 3)
    assert pipelines.HEIGHT != pipelines.WIDTH
    assert np.isfinite(output).all()
    assert output.std() > 0.01  # neither black nor clipped


def test_the_same_seed_gives_the_same_picture(family: str, pipe: DiffusionPipeline, output: np.ndarray) -> None:
    assert np.array_equal(pipelines.run(pipe, family), output)
    assert not np.array_equal(pipelines.run(pipe, family, seed=1), output)


def test_the_prompt_matters(family: str, pipe: DiffusionPipeline, output: np.ndarray) -> None:
    other = pipelines.run(pipe, family, prompt="a blue car")
    assert np.abs(other - output).max() > 1e-3


def test_a_fresh_one_is_equal(family: str, output: np.ndarray) -> None:
    assert np.array_equal(pipelines.run(pipelines.load(family), family), output)
