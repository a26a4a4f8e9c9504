"""Figures of how well something predicts or does: ROC and reliability curves, and means with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.errors import BadInput
from probe.show import style
from probe.show.curves import name_axes
from probe.show.text import shorten

LINES = ("-", "--", ":", "-.")
LEGEND = 3  # columns


@dataclass(frozen=True)
class Predictor:
    """How well one thing predicts another: its ROC curve, its area, and what was observed at what was predicted."""

    name: str
    area: float
    false_positives: Sequence[float]
    true_positives: Sequence[float]
    predicted: Sequence[float]
    observed: Sequence[float]


@dataclass(frozen=True)
class Interval:
    """A mean and where it may lie."""

    name: str
    value: float
    low: float
    high: float


def prediction_curves(predictors: Sequence[Predictor]) -> Figure:
    """ROC curves on the left; on the right how often it happened where it was predicted with a probability."""
    if not predictors:
        raise BadInput("there is nothing to draw; give at least one predictor")
    height = 4.0 + 0.2 * math.ceil(len(predictors) / LEGEND)
    figure = Figure(figsize=(style.WIDTH, height), dpi=style.DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        style.plain_axes(ax)
        ax.plot([0, 1], [0, 1], color=style.LIGHT["line"], linewidth=1.0)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    for rank, each in enumerate(predictors):
        look = {"linestyle": LINES[rank % 4], "color": style.SERIES[rank % len(style.SERIES)], "linewidth": 1.4}
        left.plot(each.false_positives, each.true_positives, label=f"{shorten(each.name, 24)} {each.area:.2f}", **look)
        right.plot(each.predicted, each.observed, marker="o", markersize=3, **look)
    name_axes(left, "ROC curve, and the area below it", "share of the neglected that are found")
    name_axes(right, "Reliability", "share that was neglected")
    _across(left, "share of the present that are taken for neglected")
    _across(right, "predicted probability of neglect")
    handles, names = left.get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside lower center", frameon=False, ncols=LEGEND)
    for entry in legend.get_texts():
        entry.set(**style.type_of(style.TICK))
    return figure


def interval_panels(panels: Sequence[tuple[str, Sequence[Interval]]]) -> Figure:
    """One panel a measure, one row a name: the mean as a dot, the interval as a line. Names are those of the first."""
    if not panels or not panels[0][1]:
        raise BadInput("there is nothing to draw; give at least one panel with one row")
    rows = len(panels[0][1])
    figure = Figure(figsize=(style.WIDTH, 0.9 + 0.24 * rows), dpi=style.DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, intervals) in zip(axes, panels, strict=True):
        style.plain_axes(ax)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", color=style.LIGHT["line"], linewidth=0.5)
        for place, each in enumerate(intervals):
            ax.plot([each.low, each.high], [place, place], color=style.LIGHT["first"], linewidth=1.6)
            ax.plot([each.value], [place], "o", color=style.LIGHT["first"], markersize=4)
        _across(ax, title)
    axes[0].set_yticks(np.arange(rows), [shorten(each.name, 22) for each in panels[0][1]])
    axes[0].invert_yaxis()
    return figure


def _across(ax: Axes, text: str) -> None:
    ax.set_xlabel(text, **style.type_of(style.TICK, style.LIGHT["muted"]))
