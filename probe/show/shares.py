"""Shares with their intervals, group by group and setting by setting, beside those that the data have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.errors import BadInput
from probe.show import style
from probe.show.evaluation import Interval
from probe.show.text import shorten

MARKS = "osD^vPX*"
ROW, SETTING, GAP = 0.2, 0.07, 0.7  # inches of a row, and more for each setting; share of it that the settings take
FEW = 3  # panels with room for 0 to 1 and a whole title
DATA = "in the data"


@dataclass(frozen=True)
class SharePanel:
    """One label: by setting, the share in each group; `reference` holds by group what is known of the data."""

    title: str
    series: Mapping[str, Sequence[Interval]]
    reference: Mapping[str, float] = field(default_factory=dict)


def share_panels(panels: Sequence[SharePanel], note: str = "") -> Figure:
    """One panel a label, one row a group, one mark a setting. A bar across a row is the share in the training data."""
    if not panels or not any(panels[0].series.values()):
        raise BadInput("there is nothing to draw; give at least one panel with one share")
    names = list(dict.fromkeys(each.name for rows in panels[0].series.values() for each in rows))
    height = ROW + SETTING * len(panels[0].series)
    figure = Figure(figsize=(style.WIDTH, 1.3 + height * len(names)), dpi=style.DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        _axes(ax, panel.title if len(panels) <= FEW else panel.title.rpartition(" ")[2], _end(panels))
        _reference(ax, panel.reference, names)
        for rank, (name, rows) in enumerate(panel.series.items()):
            _setting(ax, rows, names, (rank, len(panel.series), name))
    axes[0].set_yticks(range(len(names)), [shorten(name, 22) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    _legend(figure, axes[0])
    if note:
        figure.suptitle(note, x=0.01, ha="left", **style.type_of(style.TICK, style.LIGHT["muted"]))
    return figure


def _end(panels: Sequence[SharePanel]) -> float:
    """Where the axis of shares ends: at 1, or of many narrow panels where the largest of them does."""
    if len(panels) <= FEW:
        return 1.0
    shown = [each.high for panel in panels for rows in panel.series.values() for each in rows]
    return min(
        math.ceil(10 * max([*shown, *(share for each in panels for share in each.reference.values())])) / 10, 1.0
    )


def _axes(ax: Axes, title: str, end: float) -> None:
    style.plain_axes(ax)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color=style.LIGHT["line"], linewidth=0.5)
    ax.set_xlim(-0.02 * end, 1.02 * end)
    ax.set_xlabel(title, **style.type_of(style.TICK, style.LIGHT["muted"]))


def _reference(ax: Axes, reference: Mapping[str, float], names: Sequence[str]) -> None:
    known = [name for name in names if name in reference]
    if known:
        places = [names.index(name) for name in known]
        shares = [reference[name] for name in known]
        low, high = ([place + side for place in places] for side in (-0.45, 0.45))
        ax.vlines(shares, low, high, color=style.LIGHT["ink"], linewidth=1.8, label=DATA)


def _setting(ax: Axes, rows: Sequence[Interval], names: Sequence[str], who: tuple[int, int, str]) -> None:
    """Dots and lines of one setting, a little above or below the others."""
    rank, count, label = who
    shift = GAP * ((rank + 0.5) / count - 0.5)
    places = [names.index(each.name) + shift for each in rows]
    colour = style.SERIES[rank % len(style.SERIES)]
    ax.hlines(places, [each.low for each in rows], [each.high for each in rows], color=colour, linewidth=1.4)
    values = [each.value for each in rows]
    ax.plot(values, places, MARKS[rank % len(MARKS)], color=colour, markersize=3.6, label=shorten(label, 30))


def _legend(figure: Figure, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside lower center", frameon=False, ncols=4 if len(names) <= 4 else 3)
    for entry in legend.get_texts():
        entry.set(**style.type_of(style.TICK))
