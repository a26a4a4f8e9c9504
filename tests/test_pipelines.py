"""The tiny pipelines themselves: real classes, saved and loaded, the same twice, and moved by their prompt."""

from functools import cache

import numpy as np
import pytest
from diffusers import DiffusionPipeline

from tests import pipelines
from tests.pipelines import FAMILIES
from tests.pipelines.adapters import denoiser
from tests.pipelines.parts import picture

ALL = tuple(FAMILIES)


@pytest.fixture(scope="module", params=ALL)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipe(family: str) -> DiffusionPipeline:
    return pipelines.pipeline(family)


@pytest.fixture(scope="module")
def output(family: str, pipe: DiffusionPipeline) -> np.ndarray:
    return shared(family)


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


def test_the_prompt_matters(family: str, pipe: DiffusionPipeline, output: np.ndarray) -> None:
    other = pipelines.run(pipe, family, prompt="a blue car")
    assert np.abs(other - output).max() > 1e-3


@pytest.mark.parametrize("name", pipelines.CORE)
def test_another_seed_gives_another_picture(name: str) -> None:
    assert np.abs(pipelines.run(pipelines.pipeline(name), name, seed=1) - shared(name)).max() > 1e-2


@pytest.mark.parametrize("name", pipelines.CORE)
def test_a_fresh_one_is_equal(name: str) -> None:
    assert np.array_equal(pipelines.run(pipelines.load(name), name), shared(name))


@pytest.mark.parametrize(("changed", "base"), [(f"{base}_lora", base) for base in ("sd1", "sdxl", "sd3", "flux1")])
def test_a_lora_changes_the_picture(changed: str, base: str) -> None:
    assert np.abs(shared(changed) - shared(base)).max() > 1e-3


@pytest.mark.parametrize(("fused", "base"), [(f"{base}_fused", base) for base in ("sd1", "sd3", "flux1")])
def test_fused_projections_change_nothing_that_can_be_seen(fused: str, base: str) -> None:
    assert np.allclose(shared(fused), shared(base), atol=1e-3)
    assert any(name.endswith("to_qkv") for name, _ in denoiser(pipelines.pipeline(fused))[1].named_modules())


@pytest.mark.parametrize("family", ["sd1_ip_adapter", "sdxl_ip_adapter"])
def test_an_adapter_looks_at_its_picture(family: str) -> None:
    other = pipelines.run(pipelines.pipeline(family), family, ip_adapter_image=picture(seed=1))
    assert np.abs(other - shared(family)).max() > 1e-4


@pytest.mark.parametrize("family", ["sd1_pag", "sdxl_pag", "sd3_pag"])
def test_perturbed_attention_is_felt(family: str) -> None:
    assert np.abs(pipelines.run(pipelines.pipeline(family), family, pag_scale=0.0) - shared(family)).max() > 1e-4


@cache
def shared(family: str) -> np.ndarray:
    """What the family draws, once for all tests."""
    return pipelines.run(pipelines.pipeline(family), family)
