"""Scores of maps, against numbers worked out by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from probe.errors import BadInput
from probe.explain import faithfulness as f
from probe.heatmap import Heatmap


def heatmap(rows: Sequence[Sequence[float]] | np.ndarray) -> Heatmap:
    return Heatmap(xr.DataArray(np.asarray(rows, float), dims=("y", "x")), "cat", "made up", "none")


MAP = heatmap([[4.0, 3.0], [2.0, 0.0]])  # on its own range: 1, 0.75, 0.5, 0
MASK = np.array([[True, False], [True, False]])


def test_overlap_at_each_level():
    curve = dict(zip(np.round(f.LEVELS, 2).tolist(), f.overlaps(MAP, MASK).tolist(), strict=True))
    assert curve[0.0] == pytest.approx(2 / 4)  # all four cells
    assert curve[0.5] == pytest.approx(2 / 3)  # three
    assert curve[0.6] == pytest.approx(1 / 3)  # the first two
    assert curve[0.76] == curve[1.0] == pytest.approx(1 / 2)  # the first


def test_a_map_that_is_the_mask_overlaps_wholly_and_a_constant_one_by_the_share_of_the_mask():
    assert f.overlaps(heatmap(MASK), MASK)[1:].tolist() == [1.0] * (len(f.LEVELS) - 1)
    assert f.overlaps(heatmap(np.ones((2, 2))), MASK)[0] == 0.5


def test_the_level_for_a_half_is_chosen_on_the_other():
    curves = np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.2], [0.7, 0.2, 0.1], [0.1, 0.6, 0.5]])
    assert f.best_level(curves[[0, 2]]) == 0 and f.best_level(curves[[1, 3]]) == 1
    assert f.held_out(curves, [0, 1, 2, 3]).tolist() == [0.1, 0.3, 0.2, 0.1]
    with pytest.raises(BadInput, match="give both halves"):
        f.held_out(curves, [0, 2, 4, 6])


def test_average_precision_by_hand():
    """Ranked, the cells are in, out, in, out: precision 1 at the first and 2/3 at the second of two."""
    assert f.precision(MAP, MASK) == pytest.approx((1 + 2 / 3) / 2)
    assert f.precision(heatmap(np.zeros((2, 2))), MASK) == 0.5  # chance


def test_the_pointing_game():
    assert f.points(MAP, MASK)
    assert not f.points(MAP, ~MASK)


def test_agreement_is_the_rank_correlation():
    """Ranks 4, 3, 2, 1 against 4, 2, 3, 1: 1 - 6 (1 + 1) / (4 * 15)."""
    assert f.agreement(MAP, heatmap([[9.0, 1.0], [5.0, -7.0]])) == pytest.approx(0.8)
    assert f.agreement(MAP, heatmap(-MAP.values.values)) == pytest.approx(-1)
    assert f.agreement(MAP, heatmap(np.ones((2, 2)))) == 0.0


def test_maps_of_another_grid_are_brought_to_the_masks():
    fine = np.zeros((8, 8), bool)
    fine[:4, :4] = True
    assert f.points(MAP, fine)
    assert f.precision(MAP, fine) > f.precision(heatmap([[0.0, 0.0], [0.0, 1.0]]), fine)


def test_the_area_under_a_curve():
    assert f.area([0.0, 1.0]) == 0.5
    assert f.area([0.0, 1.0, 1.0]) == 0.75
    assert f.area([0.0, 0.5, 1.0, 1.0]) == pytest.approx((0.25 + 0.75 + 1.0) / 3)
    with pytest.raises(BadInput, match="two points or more, got 1"):
        f.area([0.0])


def test_the_interval_of_normal_values_is_near_the_textbook():
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 1.0, 400)
    found = f.interval(values.tolist(), range(400))
    error = 1.96 * values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean()) and found.count == 400
    assert (found.low, found.high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.02)


def test_words_of_one_picture_count_as_one_draw():
    """Copies of each value within its picture add no certainty."""
    values = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    once = f.interval(values, range(6))
    copied = f.interval(values * 5, [*range(6)] * 5)
    assert (once.low, once.high) == pytest.approx((copied.low, copied.high))
    assert str(f.interval([0.5, 0.5], [0, 1])) == "0.500 (0.500 to 0.500)"


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(BadInput, match="mask is empty"):
        f.precision(MAP, np.zeros((2, 2), bool))
    with pytest.raises(BadInput, match="no values"):
        f.interval([], [])
