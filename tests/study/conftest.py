"""A tiny study of real pictures: two steps of a tiny Stable Diffusion."""

from pathlib import Path
from typing import Any

import pytest

from probe import Study
from tests import pipelines


@pytest.fixture(scope="session")
def model() -> str:
    """The folder of a tiny Stable Diffusion 1."""
    return str(pipelines.folder("sd1"))


@pytest.fixture
def small(model: str, tmp_path: Path):
    """Makes studies with what a test wants changed; results lie in the test's folder."""

    def make(**changes: Any) -> Study:
        base = {"prompts": ["a cat and a dog"], "seeds": "0-3", "models": [{"source": model, "label": "tiny"}]}
        return Study(**base | {"steps": 2, "size": (32, 48), "folder": str(tmp_path / "study")} | changes)

    return make
