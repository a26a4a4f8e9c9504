"""Figures of a comparison: pictures, maps and their difference word by word, and curves over the steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from PIL import Image

from probe.comparison import ALL, SIDES, Comparison
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.heatmap import Heatmap
from probe.readings import UNITS
from probe.show import style
from probe.show.curves import PULL, legend, line, name_axes, step_axis
from probe.show.pictures import final_picture
from probe.show.render import heading, overlay, picture_rows, show_picture
from probe.show.text import shorten
from probe.trace import Trace

DIVERGING = "RdBu_r"  # white at 0; red and blue are told apart by colour-blind readers
CHANGE = "second − first"
ROWS, LINES, SIDE = 6, 9, 256


@dataclass(frozen=True)
class Panel:
    """Curves over the steps of the first run, by name, with a title and units."""

    title: str
    units: str
    curves: Mapping[str, xr.DataArray]


def comparison(
    found: Comparison,
    words: Sequence[str] | None = None,
    *,
    step: int | None = None,
    names: tuple[str, str] = SIDES,
) -> Figure:
    """Both pictures and the settings that differ; below, one row a word: its two maps, second - first, divergence.

    Maps of all words shown are on one scale, differences on one that is white at 0. Without `step`, a step of the first
    run, they are means over the steps. `words`: default the six that moved farthest. `names`: what the traces are
    called.
    Raises NoSuchWord, NoMatch (the step) or NotRecorded.
    """
    chosen = _chosen(found, words)
    planes = _planes(found, chosen, step)
    maps = Normalize(float(planes.min()), float(planes.max()))
    change = planes.sel(trace=SIDES[1]) - planes.sel(trace=SIDES[0])
    apart = CenteredNorm(0.0, float(np.abs(change).max()) or 1.0)
    pictures = [_small(trace, image) for trace, image in zip(found.traces, found.images, strict=True)]
    figure, axes = picture_rows(1 + len(chosen), 4, pictures[0].height / pictures[0].width)
    _head(axes[0], found, pictures, names)
    for row, word in zip(axes[1:], chosen, strict=True):
        for ax, side, picture in zip(row, SIDES, pictures, strict=False):
            _map(ax, picture, planes.sel(trace=side, word=word, drop=True), maps)
        row[0].set_ylabel(shorten(_label(found, word), 18), **style.type_of(style.LABEL))
        row[2].imshow(change.sel(word=word), cmap=DIVERGING, norm=apart, interpolation="nearest")
        style.picture_axes(row[2])
        _curve(row[3], found, word, step)
    step_axis(axes[-1][3])
    for ax, title in ((axes[1][2], CHANGE), (axes[1][3], "divergence, bits")):
        ax.set_title(title, **style.type_of(style.LABEL, style.LIGHT["muted"]))
    _bar(figure, [ax for row in axes[1:] for ax in row[:2]], ScalarMappable(maps, style.colour_map()), UNITS)
    _bar(figure, [row[2] for row in axes[1:]], ScalarMappable(apart, mpl.colormaps[DIVERGING]), CHANGE)
    if found.first.run.prompts == found.second.run.prompts:
        heading(figure, found.first, found.images[0])
    return figure


def _chosen(found: Comparison, words: Sequence[str] | None) -> list[str]:
    if not words:
        return found.ranked()["word"].tolist()[:ROWS]
    missing = [word for word in words if word not in found.words]
    if missing:
        raise NoSuchWord(f"{missing[0]!r} was not compared; the words are: {', '.join(found.words)}")
    return list(words)


def _planes(found: Comparison, words: Sequence[str], step: int | None) -> xr.DataArray:
    """(trace, word, y, x) at a step, or the mean over all."""
    if not found.words:
        raise NotRecorded("; ".join(found.notes))
    maps = found.maps["share"].sel(word=list(words))
    if step is None:
        return maps.mean("step")
    there = maps["step"].values.tolist()
    if step not in there:
        raise NoMatch(f"step {step} was not compared; there are: {', '.join(map(str, there))}")
    return maps.sel(step=step)


def _small(trace: Trace, image: int) -> Image.Image:
    picture = final_picture(trace, image).copy()
    picture.thumbnail((SIDE, SIDE))
    return picture


def _head(row: Sequence[Axes], found: Comparison, pictures: Sequence[Image.Image], names: Sequence[str]) -> None:
    """The pictures with their names, and beside them the settings that differ, as far as there is room."""
    for ax, picture, name in zip(row, pictures, names, strict=False):
        show_picture(ax, picture, shorten(name, 20))
    row[3].remove()
    row[2].set_axis_off()
    text = "\n".join(_differing(found))
    told = row[2].text(0.0, 1.0, text, va="top", transform=row[2].transAxes, **style.type_of(style.TICK))
    told.set_in_layout(False)


def _differing(found: Comparison) -> list[str]:
    rows = [[shorten(text, 24) or "–" for text in row] for row in found.settings.to_numpy().tolist()]
    told = [f"{name}: {first} → {second}" for name, first, second in rows]
    more = [f"and {len(told) - LINES} more"] if len(told) > LINES else []
    return [*told[:LINES], *more] or ["no setting differs"]


def _map(ax: Axes, picture: Image.Image, plane: xr.DataArray, scale: Normalize) -> None:
    overlay(picture, Heatmap(plane, "", "attention", UNITS), ax=ax, scale=(scale.vmin or 0.0, scale.vmax or 1.0))


def _label(found: Comparison, word: str) -> str:
    other = str(found.distances["second_word"].sel(word=word).values)
    return word if other.casefold() == word.casefold() else f"{word} → {other}"


def _curve(ax: Axes, found: Comparison, word: str, step: int | None) -> None:
    """The divergence of one word's maps at each step; all words have one scale."""
    every = found.distances["divergence"].sel(group=ALL)
    style.plain_axes(ax)
    line(ax, every.sel(word=word), "", 0)
    ax.set_ylim(0, 1.05 * (float(every.max()) or 1.0))
    ax.set_box_aspect(1)
    if step is not None:
        ax.axvline(step, color=style.LIGHT["muted"], linewidth=0.8, linestyle=":")


def _bar(figure: Figure, axes: Sequence[Axes], colours: ScalarMappable, label: str) -> None:
    """A colour bar below columns of maps, three ticks, as long below two columns as below one."""
    columns = len({spec.colspan.start for ax in axes if (spec := ax.get_subplotspec()) is not None})
    low, high = colours.get_clim()
    ticks = [low, (low + high) / 2, high]
    shape = {"location": "bottom", "shrink": 0.9 / columns, "aspect": 18, "pad": 0.03}
    style.colour_bar(figure.colorbar(colours, ax=axes, ticks=ticks, format="{x:.2g}", **shape), label)


def comparison_curves(found: Comparison, *, names: tuple[str, str] = SIDES) -> Figure:
    """How far maps, guidance and latents are apart over the steps, as far as they were recorded. Raises NotRecorded."""
    shown = comparison_panels(found, names)
    if not shown:
        raise NotRecorded("; ".join(found.notes))
    rows = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(style.WIDTH, 1.9 * rows + 0.2), dpi=style.DPI, layout="constrained")
    places = figure.subplots(rows, 2, squeeze=False).ravel().tolist()
    for ax, panel in zip(places, shown, strict=False):
        style.plain_axes(ax)
        for rank, (name, values) in enumerate(panel.curves.items()):
            line(ax, values, shorten(name, 20), rank)
        name_axes(ax, panel.title, panel.units)
        step_axis(ax)
        if len(panel.curves) > 1:
            ax.margins(y=0.3 * math.ceil(len(panel.curves) / 2))  # room for the names, two a row
            legend(ax)
    for empty in places[len(shown) :]:
        empty.remove()
    return figure


def comparison_panels(found: Comparison, names: tuple[str, str] = SIDES) -> list[Panel]:
    """The curves of a comparison, as far as they were recorded."""
    both = dict(zip(names, SIDES, strict=True))
    norm = found.guidance.get("difference_norm")
    pulls = {} if norm is None else {name: norm.sel(trace=side) for name, side in both.items()}
    panels = [
        Panel("How far each word's map moved", "divergence, bits", _words(found)),
        Panel(PULL, "norm of with − without", pulls),
        Panel("Do both pulls go the same way?", "cosine (1 = the same)", _of(found.guidance, {"cosine": "cosine"})),
        Panel("How far latents are apart", "root mean square", _of(found.latents, LATENTS)),
        Panel("How far pictures are apart", "root mean square, 0..1", _of(found.latents, {"thumbnails": "predicted"})),
        Panel(f"Attention by token, {CHANGE}", "share of attention", _mass(found)),
    ]
    return [panel for panel in panels if panel.curves]


LATENTS = {"latents": "before the step", "predicted": "predicted"}


def _of(part: xr.Dataset, names: Mapping[str, str]) -> dict[str, xr.DataArray]:
    return {told: part[name] for name, told in names.items() if name in part}


def _words(found: Comparison) -> dict[str, xr.DataArray]:
    """Those that moved farthest, as many as there are colours."""
    ranked = found.ranked()["word"].tolist() if found.words else []
    every = found.distances.get("divergence")
    return {} if every is None else {w: every.sel(group=ALL, word=w) for w in ranked[: len(style.SERIES)]}


def _mass(found: Comparison) -> dict[str, xr.DataArray]:
    """Second - first of each class of tokens that was recorded in both."""
    if "share" not in found.mass:
        return {}
    change = found.mass["share"].sel(trace=SIDES[1]) - found.mass["share"].sel(trace=SIDES[0])
    return {str(kind): change.sel(kind=kind) for kind in change["kind"].values if change.sel(kind=kind).notnull().any()}
