"""Methods side by side, their ranking, and where they fail."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probe import explain
from probe.errors import BadInput
from probe.heatmap import Heatmap
from probe.show import Story, failures, ranking_figure, render_report, side_by_side
from probe.show.methods import MISSING, RANGE
from tests.factories import make_trace


def made(method: str, word: str, factor: float) -> Heatmap:
    plane = factor * np.arange(16.0).reshape(4, 4)
    return Heatmap(xr.DataArray(plane, dims=("y", "x")), word, method, "made up")


MAPS = [made("a", "cat", 1), made("a", "balloon", 2), made("b", "cat", 100)]


def test_words_are_rows_methods_are_columns_and_what_is_missing_is_said():
    figure = side_by_side(make_trace(), MAPS)
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in panels[:2]] == ["a", "b"]
    assert [ax.get_ylabel() for ax in panels if ax.get_ylabel()] == ["cat", "balloon"]
    assert [ax.get_xlabel() for ax in panels if ax.get_xlabel()] == [MISSING]
    assert figure.axes[-1].get_xlabel() == RANGE


def test_each_method_has_one_range_over_all_words():
    """The brightest cell of "cat" by "a" is half of the largest of "balloon" by "a"; by "b" it is the largest."""
    panels = [np.asarray(ax.images[0].get_array()) for ax in side_by_side(make_trace(), MAPS).axes if ax.images]
    cat_a, cat_b, balloon_a = panels[:3]
    np.testing.assert_allclose(cat_b, balloon_a, atol=1e-6)
    assert np.abs(cat_a - cat_b).max() > 0.2


def table() -> pd.DataFrame:
    rows = [("all", m, k, v, v - 0.1, v + 0.1, 9) for m, v in (("a", 0.3), ("b", 0.6)) for k in ("overlap", "pointing")]
    return pd.DataFrame(rows, columns=["scope", "method", "measure", "mean", "low", "high", "count"])


def test_the_best_method_is_on_top():
    figure = ranking_figure(table(), ["overlap", "pointing"])
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b"]  # from below
    assert first.lines[0].get_xdata().tolist() == second.lines[0].get_xdata().tolist() == [0.3, 0.6]
    with pytest.raises(BadInput, match="nothing was measured for 'mars'"):
        ranking_figure(table(), ["overlap"], scope="mars")


def test_failures_have_two_rows():
    trace = make_trace()
    mask = np.zeros((128, 128), bool)
    mask[:64, :64] = True
    figure = failures([("cat 0.1", trace.pictures[0], mask, np.eye(8)), ("bow", trace.pictures[0], mask, np.eye(8))])
    assert [ax.get_title() for ax in figure.axes] == ["cat 0.1", "bow", "", ""]
    with pytest.raises(BadInput, match="no case"):
        failures([])


def test_the_report_has_the_section_when_maps_are_given():
    trace = make_trace()
    maps = [heatmap for word in ("cat", "balloon") for heatmap in explain.held(trace, word).values()]
    page = render_report(trace, story=Story(explained=maps))
    assert "What each method says of each word" in page and "What became of the subjects" not in page
    assert "What each method says" not in render_report(trace)
