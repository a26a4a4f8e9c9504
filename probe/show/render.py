"""Figures of heatmaps for papers: overlays and strips over steps.

Every function returns a matplotlib Figure of its own (give it to `savefig`); none touches pyplot.
"""

import base64
import html
import io
import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from probe.errors import BadInput
from probe.heatmap import Heatmap
from probe.readings import ALL, UNITS, Choice, content_words, word_maps
from probe.show import style
from probe.show.pictures import final_picture, predicted_pictures
from probe.show.text import shorten, spread, wrap
from probe.trace import Trace

Scale = tuple[float, float]
COLUMNS = 5
ALPHA = 0.65


def overlay(
    picture: Image.Image,
    heatmap: Heatmap,
    *,
    ax: Axes | None = None,
    scale: Scale | None = None,
    alpha: float = ALPHA,
) -> Figure:
    """A heatmap over its picture in grey. `scale` is (low, high) in the map's units, default its own; `alpha` 0..1.

    Without `ax` it is a figure of its own with a colour bar; with `ax` it draws there, without one.
    """
    limits = scale if scale is not None else scale_of([heatmap])
    figure = _own(picture) if ax is None else ax.get_figure(root=True)
    if figure is None:
        raise BadInput("ax belongs to no figure; make it with figure.add_subplot()")
    place = figure.add_subplot() if ax is None else ax
    place.imshow(blend(picture, heatmap, limits, alpha), interpolation="none")
    style.picture_axes(place)
    place.set_title(shorten(heatmap.subject, 18), **style.type_of(style.TITLE))
    if ax is None:
        colour_scale(figure, [place], limits, heatmap.units)
    return figure


def blend(picture: Image.Image, heatmap: Heatmap, scale: Scale, alpha: float = ALPHA) -> np.ndarray:
    """[y, x, rgb] 0..1: the colours of the map over the picture in grey, so that only the map has colour."""
    grey = np.asarray(picture.convert("L"), dtype=np.float64)[..., None] / 255  # [y, x, 1]
    field = np.asarray(heatmap.resize(picture.height, picture.width).values)
    colours = style.colour_map()(Normalize(*scale, clip=True)(field))[..., :3]  # [y, x, rgb]
    return alpha * colours + (1 - alpha) * grey


def overlays(
    trace: Trace,
    words: Sequence[str] | None = None,
    *,
    shared_scale: bool = True,
    choice: Choice = ALL,
) -> Figure:
    """The picture and one panel a word (default: the content words), on one scale with one colour bar.

    With `shared_scale=False` every panel has its own scale and bar: shapes compare, amounts do not.
    Raises NoSuchWord, NotRecorded.
    """
    heatmaps = word_heatmaps(trace, content_words(trace, choice.image) if words is None else tuple(words), choice)
    picture = final_picture(trace, choice.image, choice.frame)
    figure, axes = _grid(len(heatmaps) + 1, picture, own_bars=not shared_scale)
    show_picture(axes[0], picture, "picture")
    shared = scale_of(heatmaps)
    for ax, heatmap in zip(axes[1:], heatmaps, strict=True):
        scale = shared if shared_scale else scale_of([heatmap])
        overlay(picture, heatmap, ax=ax, scale=scale)
        if not shared_scale:
            colour_scale(figure, [ax], scale, UNITS)
    if shared_scale:
        colour_scale(figure, axes, shared, UNITS)
    else:
        _hide(colour_scale(figure, axes[:1], shared, UNITS))
    heading(figure, trace, choice.image)
    return figure


def strip(trace: Trace, word: str, *, steps: int = 8, choice: Choice = ALL) -> Figure:
    """One word's maps at `steps` steps spread over the run, under the pictures the model predicted at those steps.

    All maps have one scale. Raises NoSuchWord, NotRecorded.
    """
    every = word_maps(trace, [word], choice).isel(word=0)
    shown = spread(every["step"].values.tolist(), steps)
    figure = strip_of(every.sel(step=shown), predicted_pictures(trace, shown, choice.image), trace.word(word), UNITS)
    heading(figure, trace, choice.image)
    return figure


def strip_of(maps: xr.DataArray, pictures: Sequence[Image.Image], name: str, units: str) -> Figure:
    """Maps (step, y, x) in a row on one scale, under the pictures of their steps where there are any."""
    names = ["predicted", shorten(name, 12)] if pictures else [shorten(name, 12)]
    figure, axes = picture_rows(len(names), maps.sizes["step"], maps.sizes["y"] / maps.sizes["x"])
    for ax, picture in zip(axes[0], pictures, strict=False):
        show_picture(ax, picture, "")
    scale = float(maps.min()), float(maps.max())
    for ax, field in zip(axes[-1], maps.values, strict=True):
        ax.imshow(field, cmap=style.colour_map(), vmin=scale[0], vmax=scale[1], interpolation="nearest")
        style.picture_axes(ax)
    for ax, title in zip(axes[0], step_names(maps), strict=True):
        ax.set_title(title, **style.type_of(style.LABEL, style.LIGHT["muted"]))
    for row, label in zip(axes, names, strict=True):
        row[0].set_ylabel(label, **style.type_of(style.LABEL))
    colour_scale(figure, [ax for row in axes for ax in row], scale, units)
    return figure


def step_names(maps: xr.DataArray) -> list[str]:
    """What each entry of a step axis is called: its step, or those of which it is the mean."""
    starts = maps["step"].values.tolist()
    counts = maps["steps"].values.tolist() if "steps" in maps.coords else [1] * len(starts)
    return [_steps(*each) for each in zip(starts, counts, [*starts[1:], starts[-1] + counts[-1]], strict=True)]


def _steps(start: int, count: int, following: int) -> str:
    if count == 1:
        return f"step {start}"
    return f"steps {start}–{start + count - 1}" if start + count == following else f"{count} steps from {start}"


def html_figure(figure: Figure, *, alt: str = "") -> str:
    """The figure as one HTML image that holds its own data (SVG, text as outlines); `alt` describes it in words."""
    return f'<img alt="{html.escape(alt)}" style="max-width:100%" src="{figure_data(figure)}">'


def figure_data(figure: Figure) -> str:
    """The figure as an address that holds it (SVG)."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _own(picture: Image.Image) -> Figure:
    height = 2.6 * picture.height / picture.width
    return Figure(figsize=(2.7, height + 0.82), dpi=style.DPI, layout="constrained")


def _grid(panels: int, picture: Image.Image, *, own_bars: bool) -> tuple[Figure, list[Axes]]:
    """A figure with `panels` axes of the picture's shape, row by row, as even as can be."""
    rows = math.ceil(panels / COLUMNS)
    columns = math.ceil(panels / rows)
    height = style.PANEL * picture.height / picture.width + 0.27 + 0.5 * own_bars
    size = max(columns * (style.PANEL + 0.06), 3.2), rows * height + 0.55 * (not own_bars)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in places[panels:]:
        empty.remove()
    return figure, places[:panels].tolist()


def picture_rows(rows: int, columns: int, aspect: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure as wide as a page, with rows of axes whose height is `aspect` times their width."""
    side = (style.WIDTH - 0.3) / max(columns, 4)
    figure = Figure(figsize=(style.WIDTH, (side * aspect + 0.04) * rows + 0.6), dpi=style.DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def word_heatmaps(trace: Trace, words: Sequence[str], choice: Choice) -> list[Heatmap]:
    """The map of each word, mean over the chosen steps."""
    means = word_maps(trace, words, choice).mean("step")
    return [Heatmap(means.sel(word=trace.word(word), drop=True), word, "attention", UNITS) for word in words]


def scale_of(heatmaps: Sequence[Heatmap]) -> Scale:
    """The smallest and the largest value of all maps."""
    return min(float(h.values.min()) for h in heatmaps), max(float(h.values.max()) for h in heatmaps)


def show_picture(ax: Axes, picture: Image.Image, title: str) -> None:
    """A picture as it is, with a title."""
    ax.imshow(picture, interpolation="none")
    style.picture_axes(ax)
    ax.set_title(title, **style.type_of(style.TITLE, style.LIGHT["muted"]))


def colour_scale(figure: Figure, axes: Sequence[Axes], scale: Scale, label: str) -> Colorbar:
    """A colour bar below the axes."""
    mappable = ScalarMappable(Normalize(*scale), style.colour_map())
    shrink = 0.95 if len(axes) == 1 else max(0.35, 2.0 / figure.get_figwidth())
    ticks = MaxNLocator(4 if len(axes) == 1 else 6, steps=[1, 2, 2.5, 5, 10])
    shape = {"location": "bottom", "shrink": shrink, "aspect": 22, "pad": 0.03}
    bar = figure.colorbar(mappable, ax=axes, ticks=ticks, format="{x:.3g}", **shape)
    style.colour_bar(bar, label)
    return bar


def _hide(bar: Colorbar) -> None:
    """Keep a bar's place without showing it: so the picture stays in line with maps that have one."""
    bar.ax.set_axis_off()
    for colours in bar.ax.collections:
        colours.set_visible(False)


def heading(figure: Figure, trace: Trace, image: int) -> None:
    """The prompt above all, in as many lines as it needs (at most three); the figure grows by as much."""
    prompt = trace.run.prompt_of(image)
    width, height = figure.get_size_inches()
    text = wrap(prompt, int(width * 14))  # characters of `TITLE` size that fit in a line
    figure.set_size_inches(width, height + 0.1 + 0.15 * len(text.splitlines()))
    figure.suptitle(f"“{text}”", **style.type_of(style.TITLE))
