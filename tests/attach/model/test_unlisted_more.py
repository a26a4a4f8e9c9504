"""More pipelines that nobody prepared for: what pools a text, or holds a face, is no place where cells read words."""

from collections import Counter

import numpy as np
import pytest

from probe.attach.kept.passes import Pass
from probe.attach.model.families import Family
from probe.attach.model.infer import Joins, foreign, pools, settled
from probe.attach.model.layout import Plane
from tests.attach.model.unprepared import untouched, without_ftfy
from tests.pipelines.unlisted_more import UNLISTED

pytestmark = pytest.mark.filterwarnings(  # inside diffusers
    "ignore:__array__ implementation:DeprecationWarning", "ignore:`LoraLoaderMixin` is deprecated:FutureWarning"
)
PLACES = {  # family: kind, frames, sites by grid, the first column of the prompt's words
    "animate": ("cross", 3, {(8, 12): 2}, 0),
    "anyflow": ("cross", 2, {(8, 12): 2}, 0),
    "chronoedit": ("cross", 2, {(8, 12): 2}, 0),
    "easyanimate": ("joint", 3, {(4, 6): 2}, 6),
    "kandinsky3": ("cross", 1, {(4, 8): 4, (8, 16): 2}, 0),
    "latte": ("cross", 3, {(8, 12): 2}, 0),
    "prx": ("cross", 1, {(8, 12): 2}, 26),
    "vace": ("cross", 2, {(8, 12): 4}, 0),
}
WITHOUT_FTFY = ("wan.pipeline_wan_vace", "wan.pipeline_wan_animate", "wan.pipeline_wan_i2v")
WITHOUT_FTFY += ("anyflow.pipeline_anyflow", "prx.pipeline_prx", "chronoedit.pipeline_chronoedit")
INFERRED = Family("A", "unknown", (), inferred=True)


@pytest.fixture(autouse=True)
def spared(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ftfy(monkeypatch, WITHOUT_FTFY)


@pytest.mark.parametrize("name", UNLISTED)
def test_a_family_that_nobody_prepared_for(name: str):
    kind, frames, grids, first = PLACES[name]
    trace, checks = untouched(UNLISTED[name])
    assert {(site.kind, site.frames) for site in trace.sites} == {(kind, frames)}
    assert Counter(site.grid for site in trace.sites) == grids
    assert max(checks.errors.values()) < 1e-6
    for node in trace.attention_nodes():
        assert np.allclose(node["attention"].sum("word"), 1, atol=1e-4)
    spoken = [token for token in trace.tokens if token.special is None]
    assert [token.index for token in spoken] == list(range(first, first + 6))
    assert trace.node("/guidance").attrs["method"] == "classifier-free guidance"


def test_one_query_that_pools_a_text_says_nothing_of_the_picture():
    current = Pass("unet", 0, (), Plane(1, 8, 16, 128), 8, (8,))
    assert settled(INFERRED, 1, 8, current, Joins())[0] == INFERRED
    assert pools(INFERRED, 1, current.plane)
    assert not pools(INFERRED, 1, Plane(1, 1, 1, 1))
    assert not pools(Family("UNet", "cross", ()), 1, current.plane)  # its lowest level may be one cell


@pytest.mark.parametrize(("columns", "expected"), [(3, True), (20, True), (6, False), (8, False), (12, False)])
def test_keys_fewer_than_the_texts_are_of_another_kind(columns: int, expected: bool):
    known = Family("A", "cross", (), inferred=True)
    current = Pass("transformer", 0, (), Plane(1, 8, 12, 96), 8, (8,), others=(20,), attended=(6,))
    assert foreign(known, columns, current) is expected
    assert not foreign(INFERRED, 3, current)  # where cells ask the text is not known yet
