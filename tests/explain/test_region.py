"""Words of a region: ranked as they were planted, with intervals that hold, and errors that say what to do."""

import numpy as np
import pytest
import xarray as xr

from probe.errors import BadInput, NotRecorded
from probe.explain import METHODS, by
from probe.explain.region import readers, words_of_region
from tests.factories import centre, make_trace

WORDS = ("cat", "balloon", "dog")


@pytest.fixture(scope="module")
def trace():
    return make_trace(words=WORDS, steps=6)


@pytest.mark.parametrize("word", WORDS)
def test_the_word_that_sits_there_leads(trace, word):
    y, x = centre(word, WORDS)
    for region in ((y, x), (x - 0.08, y - 0.08, x + 0.08, y + 0.08)):
        table = words_of_region(trace, region)
        assert table.index[0] == word and table["share"].is_monotonic_decreasing
        assert table.loc[word, "first"] == 1.0 and table.loc[word, "lift"] > 1.5
        assert table["share"].sum() == pytest.approx(1.0) and table["first"].sum() == pytest.approx(1.0)
        assert ((table["low"] <= table["share"] + 1e-9) & (table["share"] <= table["high"] + 1e-9)).all()


def with_relevancy(values: np.ndarray, words=("a", "b")):
    """A trace whose relevancy is (step, y, x, word)."""
    bare = make_trace(steps=len(values))
    array = (
        ("step", "image", "word", "y", "x"),
        np.moveaxis(values, -1, 1)[:, None].astype(np.float32),
        {"units": "1"},
    )
    coords = {"step": np.arange(len(values)), "image": [0], "word": list(words)}
    bare.tree["relevancy"] = xr.DataTree(xr.Dataset({"relevancy": array}, coords=coords))
    return bare


def test_shares_by_hand():
    values = np.zeros((2, 2, 2, 2))
    values[:, 0, 0], values[:, 0, 1] = (3.0, 1.0), (1.0, 3.0)
    table = words_of_region(with_relevancy(values), (0.1, 0.1), method="relevancy")
    assert table["share"].to_dict() == pytest.approx({"a": 0.75, "b": 0.25})
    assert table["lift"].to_dict() == pytest.approx({"a": 3.0, "b": 1.0})
    assert (table["low"] == table["high"]).all()  # one cell, equal steps: there is nothing to draw


def test_the_order_of_equals_is_uncertain_and_intervals_cover_as_often_as_they_say():
    """Cells drawn from one distribution: the interval of the mean of many contains the truth in 90 % of trials."""
    rng, covered, leads = np.random.default_rng(0), 0, []
    for _ in range(40):
        values = rng.gamma(2.0, size=(1, 8, 8, 2))
        table = words_of_region(with_relevancy(values), (0, 0, 1, 1), method="relevancy")
        covered += bool(table.loc["a", "low"] <= 0.5 <= table.loc["a", "high"])
        leads.append(table.loc["a", "first"])
    assert 31 <= covered <= 40
    assert 0.2 < np.mean(leads) < 0.8


def test_any_explainer_of_words_reads_a_region(trace):
    """DAAM's maps are means over the whole run: cells are drawn again, steps are not."""
    y, x = centre("balloon", WORDS)
    table = words_of_region(trace, (x - 0.08, y - 0.08, x + 0.08, y + 0.08), method="daam")
    inside = {word: by("daam").explain(trace, word) for word in WORDS}
    assert table.index[0] == "balloon" and set(table.index) == set(WORDS)
    assert table["share"].sum() == pytest.approx(1.0)
    cell = (int(y * 64), int(x * 64))
    at = {word: float(found.values.values[cell]) for word, found in inside.items()}
    alone = words_of_region(trace, (y, x), method="daam")["share"].to_dict()
    assert alone == pytest.approx({word: value / sum(at.values()) for word, value in at.items()}, rel=1e-4)
    assert "guidance" not in readers() and len(readers()) == len(METHODS) - 1


def test_errors(trace):
    with pytest.raises(BadInput, match="neither a cell"):
        words_of_region(trace, (0.1, 0.2, 0.3))
    with pytest.raises(BadInput, match="neither a cell"):
        words_of_region(trace, (3, 4))
    with pytest.raises(BadInput, match="holds no cell of 16 x 16"):
        words_of_region(trace, (0.5, 0.5, 0.5, 0.9))
    with pytest.raises(NotRecorded, match="probe.Relevancy"):
        words_of_region(trace, (0.5, 0.5), method="relevancy")
    with pytest.raises(NotRecorded, match="probe.LeaveOneOut"):
        words_of_region(trace, (0.5, 0.5), method="leave_one_out")
    for method in ("magic", "guidance"):
        with pytest.raises(BadInput, match="reads no region; there are: attention, relevancy, leave_one_out"):
            words_of_region(trace, (0.5, 0.5), method=method)
