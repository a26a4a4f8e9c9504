"""Figures of what is no map: a table of one or two axes, and the pictures of an encoder that ends early."""

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from probe.errors import BadInput, NotRecorded
from probe.show import style
from probe.show.render import picture_rows, show_picture
from probe.show.text import shorten
from probe.trace import Trace

ROW, LABEL = 0.19, 34  # inches of a row; letters of its name
DIGITS = 12  # columns up to which numbers fit into cells
ACROSS = 6  # pictures in a row


def table_figure(table: xr.DataArray, title: str = "") -> Figure:
    """Bars of a table of one axis; of one of two, cells with their numbers on one scale. Raises BadInput."""
    if table.ndim not in (1, 2) or table.size == 0:
        raise BadInput(f"a table to draw has one or two axes and entries, this one has {dict(table.sizes)}")
    figure = Figure(figsize=(style.WIDTH, ROW * len(table) + 1.2), dpi=style.DPI, layout="constrained")
    ax = figure.subplots()
    (_bars if table.ndim == 1 else _cells)(ax, table)
    names = [_end(name) for name in _apart([str(name) for name in table[table.dims[0]].values])]
    ax.set_yticks(range(len(names)), names, **style.type_of(style.TICK))
    ax.set_ylim(len(names) - 0.5, -0.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", **style.type_of(style.TITLE))
    return figure


def _apart(names: Sequence[str]) -> list[str]:
    """Paths without the parts at both ends that all have: `unet` and `attn2` tell no layer from another."""
    paths = [name.split(".") for name in names]
    if len(set(names)) < 2 or min(map(len, paths)) < 2:
        return list(names)
    head = min(_alike(paths), *(len(path) - 1 for path in paths))
    tail = _alike([path[:head:-1] for path in paths])
    return [".".join(path[head : len(path) - tail]) for path in paths]


def _alike(paths: Sequence[Sequence[str]]) -> int:
    """How many parts at the front all paths share."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))


def _end(name: str) -> str:
    """A name; of a long one its end."""
    return name if len(name) <= LABEL else "…" + name[1 - LABEL :]


def _bars(ax: Axes, table: xr.DataArray) -> None:
    style.plain_axes(ax)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=style.LIGHT["line"], linewidth=0.5)
    ax.barh(range(len(table)), table.values, height=0.6, color=style.LIGHT["first"])
    ax.axvline(0, color=style.LIGHT["muted"], linewidth=0.6)
    ax.set_xlabel(str(table.attrs.get("units", "")), **style.type_of(style.LABEL, style.LIGHT["muted"]))


def _cells(ax: Axes, table: xr.DataArray) -> None:
    """Darker is more; numbers where they fit."""
    columns = [shorten(str(name), 14) for name in table[table.dims[1]].values]
    least = min(0.0, float(table.min()))
    shown = ax.imshow(table.values, cmap=style.colour_map(), aspect="auto", interpolation="nearest", vmin=least)
    style.picture_axes(ax)
    ax.xaxis.tick_top()
    slant = {"rotation": 35, "ha": "left", "rotation_mode": "anchor"} if len(columns) > DIGITS // 2 else {}
    ax.set_xticks(range(len(columns)), columns, **style.type_of(style.TICK, **slant))
    bar = ax.figure.colorbar(shown, ax=ax, location="bottom", shrink=0.5, aspect=30, pad=0.03)
    style.colour_bar(bar, str(table.attrs.get("units", "")))
    if len(columns) <= DIGITS:
        for (row, column), value in np.ndenumerate(table.values):
            light = sum(shown.to_rgba(value)[:3]) > 1.5
            ink = style.type_of(style.TICK, "black" if light else "white", ha="center", va="center")
            ax.text(column, row, f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}", **ink)


def lens_figure(trace: Trace) -> Figure:
    """The pictures of an encoder that ends after fewer of its layers. Raises NotRecorded."""
    pictures = lens_pictures(trace)
    if not pictures:
        raise NotRecorded(
            "this trace holds no pictures of a lens; make them with `probe trace PROMPT --lens all`, or in Python "
            "`probe.with_lens(trace, probe.lens(pipe, prompt))`"
        )
    total = int(trace.node("lens").attrs["layers"])
    first = next(iter(pictures.values()))
    rows = -(-len(pictures) // ACROSS)
    figure, axes = picture_rows(rows, min(ACROSS, len(pictures)), first.height / first.width + 0.12)
    places = [ax for row in axes for ax in row]
    for ax, (depth, picture) in zip(places, pictures.items(), strict=False):
        show_picture(ax, picture, "all layers" if depth == total else f"{depth} of {total}")
    for empty in places[len(pictures) :]:
        empty.remove()
    figure.suptitle("Drawn after so many layers of the text encoder", x=0.01, ha="left", **style.type_of(style.TITLE))
    return figure


def lens_pictures(trace: Trace) -> dict[int, Image.Image]:
    """By the number of the encoder's layers that read the prompt; none where no lens was used."""
    if "lens" not in trace.tree.children:
        return {}
    kept = trace.node("lens")["pictures"].transpose("layer", "y", "x", "rgb")
    return {
        int(depth): Image.fromarray(pixels) for depth, pixels in zip(kept["layer"].values, kept.values, strict=True)
    }
