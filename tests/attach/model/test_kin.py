"""Other pipelines of the families in the table: the same picture, all hooks given back, exact and rightly labelled."""

from typing import Any

import numpy as np
import pytest

import probe
from probe.errors import RecordingError
from tests.attach.looking import WORDS, checking
from tests.attach.model.unprepared import run, without_ftfy
from tests.fingerprint import hooks, modules_of
from tests.pipelines import unet
from tests.pipelines.kin import KIN, kin
from tests.pipelines.parts import Maker, options

pytestmark = pytest.mark.filterwarnings(  # inside diffusers
    "ignore:__array__ implementation:DeprecationWarning", "ignore::FutureWarning:diffusers"
)
WITHOUT_FTFY = ("wan.pipeline_wan_video2video", "lucy.pipeline_lucy_edit", "wan.pipeline_wan")


@pytest.fixture(autouse=True)
def spared(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ftfy(monkeypatch, WITHOUT_FTFY)


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


def test_windows_of_a_picture_that_are_denoised_one_by_one_are_refused():
    pipe: Any = kin("StableDiffusionPanoramaPipeline", unet.sd_parts)()
    before = hooks(*modules_of(pipe))
    with probe.record(pipe, ["cat"]):  # one window
        run(pipe, Maker(unet.sd1, options()))
    with pytest.raises(RecordingError, match="denoises windows of a larger picture"), probe.record(pipe, ["cat"]):
        run(pipe, Maker(unet.sd1, options()), width=640)
    assert hooks(*modules_of(pipe)) == before
