"""A saved trace, and a copy of it to spoil."""

import shutil
from pathlib import Path

import pytest

from tests.factories import make_trace


@pytest.fixture(scope="package")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(steps=2, grids=((8, 8),), size=32).save(tmp_path_factory.mktemp("hostile") / "t")


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "t"))
