"""Figures of predictions and of intervals: the numbers that were given, named, and nothing clipped."""

import numpy as np
import pytest

from probe.errors import BadInput
from probe.show import Interval, Predictor, interval_panels, prediction_curves
from tests.show.test_render import clipped


def test_curves_of_predictors_and_their_areas():
    given = [Predictor(f"signal {i}", 0.9, [0, 0.1, 1], [0, 0.8, 1], [0.1, 0.9], [0.2, 0.8]) for i in range(5)]
    figure = prediction_curves(given)
    roc, reliability = figure.axes
    np.testing.assert_array_equal(roc.lines[1].get_ydata(), [0, 0.8, 1])  # line 0 is the diagonal
    np.testing.assert_array_equal(reliability.lines[1].get_xdata(), [0.1, 0.9])
    assert roc.lines[1].get_label() == "signal 0 0.90"
    assert clipped(figure) == []


def test_intervals_stand_in_the_order_that_was_given():
    rows = [Interval("plain", 0.4, 0.3, 0.5), Interval("AttendAndExcite", 0.7, 0.6, 0.8)]
    figure = interval_panels([("all subjects present", rows), ("seconds", rows)])
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["plain", "AttendAndExcite"]
    np.testing.assert_array_equal(first.lines[2].get_xdata(), [0.6, 0.8])
    assert first.yaxis_inverted()
    assert clipped(figure) == []


def test_nothing_to_draw():
    with pytest.raises(BadInput, match="there is nothing to draw; give at least one predictor"):
        prediction_curves([])
    with pytest.raises(BadInput, match="at least one panel with one row"):
        interval_panels([("all", [])])
