"""Figures of several methods: their maps side by side, and how they rank against known masks."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from probe.errors import BadInput
from probe.heatmap import Heatmap
from probe.show import style
from probe.show.pictures import final_picture
from probe.show.render import colour_scale, heading, overlay, picture_rows, scale_of, show_picture
from probe.show.text import shorten
from probe.trace import Trace

RANGE = "share of the method's range over these words"
MISSING = "not recorded"
SIDE = 256


def side_by_side(trace: Trace, heatmaps: Sequence[Heatmap], *, image: int = 0, frame: int | None = None) -> Figure:
    """One row a word, one column a method, over the picture; all on one scale.

    Each method is brought to 0..1 by its least and largest value over all words shown, so that words compare within a
    method and shapes between methods; amounts of two methods have different units and do not.
    Of a film, `frame` is that of the maps, for the picture under them. Raises BadInput.
    """
    if not heatmaps:
        raise BadInput("there is no map to show; explain a word first")
    methods, words = (
        list(dict.fromkeys(each)) for each in zip(*((h.method, h.subject) for h in heatmaps), strict=True)
    )
    limits = {name: scale_of([h for h in heatmaps if h.method == name]) for name in methods}
    found = {(h.subject, h.method): h for h in heatmaps}
    picture = final_picture(trace, image, frame).copy()
    picture.thumbnail((SIDE, SIDE))  # of each panel: a report with twenty of them stays small
    figure, axes = picture_rows(len(words), max(3, len(methods)), picture.height / picture.width)
    for row, word in zip(axes, words, strict=True):
        for ax, name in zip(row, methods, strict=False):
            _panel(ax, picture, found.get((word, name)), limits[name])
        row[0].set_ylabel(shorten(word, 16), **style.type_of(style.LABEL))
        for empty in row[len(methods) :]:
            empty.remove()
    for ax, name in zip(axes[0], methods, strict=False):
        ax.set_title(fill(shorten(name.replace("_", " "), 24), 12), **style.type_of(style.TITLE))
    colour_scale(figure, [ax for row in axes for ax in row[: len(methods)]], (0.0, 1.0), RANGE)
    heading(figure, trace, image)
    return figure


def _panel(ax: Axes, picture: Image.Image, heatmap: Heatmap | None, scale: tuple[float, float]) -> None:
    if heatmap is None:
        show_picture(ax, picture.convert("L").convert("RGB"), "")
        ax.set_xlabel(MISSING, **style.type_of(style.TICK, style.LIGHT["muted"]))
    else:
        overlay(picture, heatmap, ax=ax, scale=scale)
        ax.set_title("")


def ranking_figure(table: pd.DataFrame, measures: Sequence[str], *, scope: str = "all") -> Figure:
    """A dot and its 95 % interval for each method, one panel a measure; the methods in the order of the first.

    `table` has one line a scope, method and measure, as `probe.explain.ranking` makes it. Raises BadInput.
    """
    part = table.query("scope == @scope and measure in @measures")
    if part.empty:
        raise BadInput(f"nothing was measured for {scope!r} by {', '.join(measures)}")
    first = part.loc[part["measure"] == part["measure"].iloc[0]].sort_values("mean")
    names = [str(name) for name in first["method"]]
    height = 0.2 * len(names) + 0.9
    figure = Figure(figsize=(style.WIDTH, height), dpi=style.DPI, layout="constrained")
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for ax, measure in zip(axes, measures, strict=True):
        own = part.loc[part["measure"] == measure].set_index("method").reindex(names)
        _dots(ax, own)
        ax.set_title(measure, loc="left", **style.type_of(style.LABEL))
    axes[0].set_yticks(range(len(names)), [shorten(name, 28) for name in names], **style.type_of(style.TICK))
    return figure


def _dots(ax: Axes, own: pd.DataFrame) -> None:
    style.plain_axes(ax)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=style.LIGHT["line"], linewidth=0.5)
    rows = np.arange(len(own))
    ax.hlines(rows, own["low"], own["high"], color=style.LIGHT["first"], linewidth=1.2)
    ax.plot(own["mean"], rows, "o", color=style.LIGHT["first"], markersize=3.5)


def failures(cases: Sequence[tuple[str, Image.Image, np.ndarray, np.ndarray]]) -> Figure:
    """Cases side by side, each as (title, picture, mask [y, x], map [y, x]): picture over map, with the mask's outline.

    Every map is on its own range. Raises BadInput without cases.
    """
    if not cases:
        raise BadInput("there is no case to show")
    figure, axes = picture_rows(2, len(cases), cases[0][1].height / cases[0][1].width)
    for above, below, (title, picture, mask, plane) in zip(axes[0], axes[1], cases, strict=True):
        show_picture(above, picture, shorten(title, 20))
        below.imshow(plane, cmap=style.colour_map(), interpolation="nearest", extent=(0, *mask.shape[::-1], 0))
        style.picture_axes(below)
        for ax in (above, below):
            _outline(ax, mask)
    axes[0][0].set_ylabel("picture, and mask", **style.type_of(style.LABEL))
    axes[1][0].set_ylabel("map, and mask", **style.type_of(style.LABEL))
    return figure


def _outline(ax: Axes, mask: np.ndarray) -> None:
    """The mask's edge in white on black, so that it shows on any picture."""
    rows, columns = (np.arange(length) + 0.5 for length in mask.shape)
    for colour, width in (("black", 1.8), ("white", 0.8)):
        ax.contour(columns, rows, mask, [0.5], colors=[colour], linewidths=[width])
