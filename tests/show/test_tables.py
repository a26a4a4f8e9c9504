"""Figures of tables and of the lens: what they draw, and that nothing of it is cut off."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from probe.errors import BadInput, NotRecorded
from probe.show import lens_figure, lens_pictures, render_report, table_figure
from probe.show.nursing import Story
from probe.show.tables import _apart
from probe.trace import Trace
from tests.factories import make_trace

LONG = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2"


def with_pictures() -> Trace:
    trace = make_trace()
    pixels = np.stack([np.full((8, 8, 3), 20 * depth, np.uint8) for depth in range(7)])
    held = xr.Dataset({"pictures": (("layer", "y", "x", "rgb"), pixels)}, {"layer": range(7)}, {"layers": 6})
    tree = trace.tree.copy()
    tree["lens"] = xr.DataTree(held)
    return replace(trace, tree=tree)


def inside(figure) -> bool:
    """Whether every text of the figure lies on it."""
    figure.draw_without_rendering()
    ax = figure.axes[0]  # of a colour bar, texts beyond its ends are there and not drawn
    texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    width, height = figure.canvas.get_width_height()
    return all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


@pytest.mark.parametrize("words", [2, 9, 14])
def test_a_table_of_two_axes_has_its_names_and_numbers(words: int):
    values = np.linspace(0, 1, 3 * words).reshape(3, words)
    coords = {"site": [f"{LONG}.{i}" for i in range(3)], "word": [f"elephants {i}" for i in range(words)]}
    figure = table_figure(xr.DataArray(values, coords, ("site", "word"), attrs={"units": "share"}), "Which layers")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "1", "2"]  # what all share says nothing
    assert len(ax.texts) == (3 * words if words <= 12 else 0)
    assert inside(figure)


def test_layers_are_named_by_what_tells_them_apart():
    names = ["unet.down.1.attn.0.attn2", "unet.mid.attn.0.attn2", "unet.down.2.attn.0.attn2"]
    assert _apart(names) == ["down.1", "mid", "down.2"]
    assert _apart(["cat", "red"]) == ["cat", "red"] and _apart(["unet.a"]) == ["unet.a"]
    assert _apart(["a.b", "a.b.c"]) == ["b", "b.c"]


def test_a_table_of_one_axis_has_bars():
    figure = table_figure(xr.DataArray([0.5, -0.25], {"word": ["cat", "red"]}, ("word",), attrs={"units": "share"}))
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.5, -0.25] and figure.axes[0].get_xlabel() == "share"
    with pytest.raises(BadInput, match="one or two axes"):
        table_figure(xr.DataArray(np.zeros((2, 2, 2))))


def test_the_pictures_of_a_lens_stand_in_their_order():
    trace = with_pictures()
    assert list(lens_pictures(trace)) == list(range(7))
    assert isinstance(lens_pictures(trace)[0], Image.Image)
    titles = [ax.get_title() for ax in lens_figure(trace).axes]
    assert titles[0] == "0 of 6" and titles[-1] == "all layers" and len(titles) == 7
    with pytest.raises(NotRecorded, match="probe.with_lens"):
        lens_figure(make_trace())


def test_a_report_has_both():
    told = [("Which <layers>", xr.DataArray([1.0], {"word": ["cat"]}, ("word",)))]
    page = render_report(with_pictures(), story=Story(tables=told))
    assert "When the text encoder ends early" in page and "Which &lt;layers&gt;" in page
    plain = render_report(make_trace())
    assert "ends early" not in plain and "Which words and layers" not in plain
