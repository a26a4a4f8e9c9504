"""The one visual language: colours, type and sizes of every figure, report and dashboard."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap

from probe.show.text import families

COLOUR_MAP = "magma"  # perceptually even, readable in grey and by colour-blind readers

LIGHT: Mapping[str, str] = {
    "ink": "#1b2029",
    "muted": "#535c6b",
    "line": "#c9cfd9",
    "panel": "#f4f6f9",
    "paper": "#ffffff",
    "accent": "#7a1f6e",
    "first": "#1f5fa8",
    "second": "#b8500c",
    "third": "#1b7a55",
}
DARK: Mapping[str, str] = {
    "ink": "#eceff4",
    "muted": "#a9b3c2",
    "line": "#3a4353",
    "panel": "#1c222c",
    "paper": "#12161d",
    "accent": "#f0a6e2",
    "first": "#7db4f0",
    "second": "#f2a065",
    "third": "#6fcfa4",
}
SERIES = (LIGHT["first"], LIGHT["second"], LIGHT["third"], LIGHT["accent"], "#6b6b6b", "#a07800", "#3d8a99", "#93415a")
SANS = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", Arial, sans-serif'

TITLE, LABEL, TICK = 9.0, 8.0, 7.0  # points
PANEL = 1.4  # inches: side of one picture in a figure
WIDTH = 7.0  # inches: the text width of a page
DPI = 200


def colour_map() -> Colormap:
    """The colour map of every heatmap."""
    return mpl.colormaps[COLOUR_MAP]


def colour_table() -> str:
    """The colour map as 256 colours in hexadecimal, rrggbb one after the other, low to high."""
    levels = colour_map()(range(256), bytes=True)[:, :3]  # [256, rgb]
    return bytes(levels.ravel().tolist()).hex()


@cache
def css() -> str:
    """The colours as CSS variables, light by default and dark where the reader prefers it, and the font."""
    light, dark = (";".join(f"--{name}:{value}" for name, value in each.items()) for each in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light dark;--sans:{SANS};{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def type_of(size: float, colour: str = LIGHT["ink"], **more: Any) -> dict[str, Any]:
    """Keyword arguments for any matplotlib text: our fonts, and `$` and `_` taken as they are."""
    return {"fontfamily": families(), "fontsize": size, "color": colour, "parse_math": False, **more}


def plain_axes(ax: Axes) -> None:
    """Axes of a curve: thin lines, no box, small numbers."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=LIGHT["muted"], linewidth=0.6)
    ax.grid(axis="y", color=LIGHT["line"], linewidth=0.5)
    ax.set_axisbelow(True)
    _ticks(ax)


def picture_axes(ax: Axes) -> None:
    """Axes of a picture: no ticks and a hairline around."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color=LIGHT["line"], linewidth=0.5)


def colour_bar(bar: Colorbar, label: str) -> None:
    """A colour bar with its label and a hairline around."""
    bar.set_label(label, **type_of(TICK))
    bar.outline.set(edgecolor=LIGHT["muted"], linewidth=0.5)
    _ticks(bar.ax)


def _ticks(ax: Axes) -> None:
    ax.tick_params(
        which="both",
        width=0.5,
        length=2.5,
        color=LIGHT["muted"],
        labelsize=TICK,
        labelcolor=LIGHT["ink"],
        labelfontfamily=families(),
    )
