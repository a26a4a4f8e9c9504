"""Curves over steps: how guidance pulls, and how much attention each word gets."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.errors import NotRecorded
from probe.readings import ALL, UNITS, Choice, content_words, word_maps
from probe.show import style
from probe.show.text import shorten
from probe.trace import Trace

PULL = "How hard the prompt pulls"
TURN = "Does the pull keep its direction?"
COSINES: Mapping[str, str] = {"cosine_previous": "with the step before", "cosine_final": "with the last step"}


def has_guidance(trace: Trace) -> bool:
    """Whether guidance was recorded with both branches, so that `guidance_curve` can be drawn."""
    return "guidance" in trace.tree.children and "difference_norm" in trace.node("guidance")


def guidance_curve(trace: Trace, *, image: int = 0) -> Figure:
    """Guidance over steps: the norm of (conditional - unconditional), and its cosine with the step before and the last.

    Norms are in units of the predicted noise, over all cells and channels. Raises NotRecorded, also when the
    run had no second branch.
    """
    record = trace.node("guidance").sel(image=image)
    if not has_guidance(trace):
        raise NotRecorded("this run had no branch without the prompt (guidance off, or distilled): there is no curve")
    figure, (pull, turn) = panels(2)
    line(pull, record["difference_norm"], "", 0)
    name_axes(pull, PULL, "norm of the difference\nwith − without prompt")
    pull.set_ylim(bottom=0)
    for rank, (name, label) in enumerate(COSINES.items(), start=1):
        line(turn, record[name], label, rank)
    name_axes(turn, TURN, "cosine (1 = same direction)")
    low = min(float(record[name].min()) for name in COSINES)
    turn.set_ylim(-1.05 if low < 0 else -0.02, 1.05)
    legend(turn)
    step_axis(turn)
    return figure


def word_curves(trace: Trace, words: Sequence[str] | None = None, *, choice: Choice = ALL) -> Figure:
    """Attention of each word (default: the content words) over steps: mean over the cells, and the largest cell."""
    chosen = tuple(words) if words is not None else content_words(trace, choice.image)
    maps = word_maps(trace, chosen, choice)
    figure, (mean, most) = panels(2)
    for rank, word in enumerate(chosen):
        label = shorten(word, 18)
        line(mean, maps.isel(word=rank).mean(("y", "x")), label, rank)
        line(most, maps.isel(word=rank).max(("y", "x")), label, rank)
    name_axes(mean, "Attention of each word, mean over the picture", UNITS)
    name_axes(most, "Attention of each word, strongest cell", UNITS)
    legend(mean)
    step_axis(most)
    return figure


def panels(rows: int) -> tuple[Figure, Sequence[Axes]]:
    """Axes of curves below each other, with one step axis."""
    figure = Figure(figsize=(4.6, 1.9 * rows), dpi=style.DPI, layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True)
    for ax in axes:
        style.plain_axes(ax)
    return figure, axes


def line(ax: Axes, values: xr.DataArray, label: str, rank: int) -> None:
    """One curve; a dashed or dotted line after the first ones, so that colour is not all that tells them apart."""
    dash = ("-", "--", ":", "-.")[rank % 4]
    colour = style.SERIES[rank % len(style.SERIES)]
    marker = "o" if values.sizes["step"] <= 12 else ""
    steps = np.asarray(values["step"].values)
    ax.plot(steps, values.values, dash, color=colour, linewidth=1.4, marker=marker, markersize=3, label=label)


def name_axes(ax: Axes, title: str, units: str) -> None:
    """What a panel shows, and in which units."""
    ax.set_title(title, loc="left", **style.type_of(style.TITLE))
    ax.set_ylabel(units, **style.type_of(style.TICK, style.LIGHT["muted"]))


def legend(ax: Axes) -> None:
    """Names of the curves."""
    legend = ax.legend(frameon=False, ncols=2, borderaxespad=0.2, handlelength=2.4, columnspacing=1.2)
    for entry in legend.get_texts():
        entry.set(**style.type_of(style.TICK))


def step_axis(ax: Axes) -> None:
    """Whole steps along the bottom."""
    ax.set_xlabel("denoising step", **style.type_of(style.LABEL, style.LIGHT["muted"]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
