"""Other pipelines of the families in the table: the same picture, all hooks given back, exact and rightly labelled."""

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import probe
from tests.attach.looking import WORDS, checking
from tests.attach.model.unprepared import run
from tests.fingerprint import hooks, modules_of
from tests.pipelines.kin import KIN

pytestmark = pytest.mark.filterwarnings(  # inside diffusers
    "ignore:__array__ implementation:DeprecationWarning", "ignore::FutureWarning:diffusers"
)
WITHOUT_FTFY = ("wan.pipeline_wan_video2video", "lucy.pipeline_lucy_edit", "wan.pipeline_wan")


@pytest.fixture(autouse=True)
def without_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What mends broken letters in some of the pipelines, and need not be installed."""
    for name in WITHOUT_FTFY:
        module = importlib.import_module(f"diffusers.pipelines.{name}")
        monkeypatch.setattr(module, "ftfy", SimpleNamespace(fix_text=str), raising=False)


@pytest.mark.parametrize("name", KIN)
def test_another_pipeline_of_a_family_that_is_known(name: str):
    maker, passes = KIN[name]
    pipe: Any = maker.make()
    plain, before = run(pipe, maker), hooks(*modules_of(pipe))
    with checking() as checks, probe.record(pipe, WORDS) as recording:
        recorded = run(pipe, maker)
    assert np.array_equal(np.asarray(plain), np.asarray(recorded))
    assert hooks(*modules_of(pipe)) == before
    assert max(checks.errors.values()) < 1e-6
    found = {id(current): tuple(row.branch for row in current.rows) for _, current in checks.calls}
    assert list(found.values()) == passes
    assert all(np.isfinite(node["attention"]).all() for node in recording.trace.attention_nodes())
