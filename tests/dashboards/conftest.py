"""A folder of traces for each test, and small traces to lay in it."""

from pathlib import Path

import pytest

from dashboards.shared import traces
from tests.factories import make_trace


@pytest.fixture(autouse=True)
def root_of_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the dashboard takes for its own."""
    monkeypatch.setenv(traces.VARIABLE, str(tmp_path / "traces"))
    return tmp_path / "traces"


@pytest.fixture
def saved() -> str:
    """The id of a saved trace of "a cat and a balloon": six steps, cat in the left half, balloon in the right."""
    return traces.save(make_trace(steps=6))
