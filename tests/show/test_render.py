"""Figures: what stands where, on which scale, in which words, and that nothing is clipped."""

import base64
import io
import re
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from probe.errors import NoSuchWord, NotRecorded
from probe.explain.attention import attention
from probe.heatmap import Heatmap
from probe.readings import Choice
from probe.show import html_figure, overlay, overlays, strip, style
from probe.show.render import blend
from probe.trace import Trace
from tests.factories import make_trace
from tests.show.hostile import WORDS


def bars(figure: Figure) -> list[tuple[float, float]]:
    """Limits of the colour bars that can be seen."""
    axes = [ax for ax in figure.axes if ax.get_label() == "<colorbar>" and ax.axison]
    return [ax.get_xlim() for ax in axes]


def drawn(ax: Axes) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def panels(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_label() != "<colorbar>"]


def clipped(figure: Figure) -> list[str]:
    """The edges of the figure over which something reaches that is drawn, once laid out."""
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    over = {"left": -drawn.x0, "bottom": -drawn.y0, "right": drawn.x1 - width, "top": drawn.y1 - height}
    return [edge for edge, inches in over.items() if inches > 0.005]


def field(values: np.ndarray) -> Heatmap:
    return Heatmap(xr.DataArray(values, dims=("y", "x")), "cat", "attention", "share")


def test_overlays_have_one_scale_and_one_bar_with_units():
    trace = make_trace(words=("cat", "balloon", "dog"))
    figure = overlays(trace)
    assert panels(figure) == ["picture", "cat", "balloon", "dog"]
    maps = np.stack([attention(trace, word).values for word in ("cat", "balloon", "dog")])
    assert bars(figure) == [pytest.approx((maps.min(), maps.max()))]
    assert "share of a cell's attention" in {ax.get_xlabel() for ax in figure.axes}
    assert "a cat and a balloon and a dog" in figure.get_suptitle()


def test_overlays_can_have_a_scale_each():
    trace = make_trace()
    maps = [attention(trace, word).values for word in ("cat", "balloon")]
    expected = [pytest.approx((float(m.min()), float(m.max()))) for m in maps]
    assert bars(overlays(trace, shared_scale=False)) == expected


def test_overlays_show_the_words_asked_for_in_their_order():
    figure = overlays(make_trace(), ["balloon", "<start>"])
    assert panels(figure) == ["picture", "balloon", "<start>"]


def test_overlays_of_many_words_stand_in_rows():
    figure = overlays(make_trace(words=tuple("bcdefghij")))
    rows = {round(ax.get_position().y0, 3) for ax in figure.axes if ax.get_title()}
    assert len(panels(figure)) == 10
    assert len(rows) == 2
    assert clipped(figure) == []


def test_overlays_of_another_picture_show_that_picture():
    trace = make_trace(images=2)
    shown = drawn(overlays(trace, choice=Choice(image=1)).axes[0])
    np.testing.assert_array_equal(shown, np.asarray(trace.pictures[1]))


def test_overlay_draws_on_the_axes_it_is_given():
    trace = make_trace()
    figure = Figure()
    ax = figure.add_subplot()
    assert overlay(trace.pictures[0], attention(trace, "cat"), ax=ax) is figure
    assert figure.axes == [ax]
    assert ax.get_title() == "cat"
    assert drawn(ax).shape == (128, 128, 3)


def test_overlay_alone_has_a_bar_with_the_maps_own_range_or_the_one_given():
    trace = make_trace()
    heatmap = attention(trace, "cat")
    assert bars(overlay(trace.pictures[0], heatmap)) == [(float(heatmap.values.min()), float(heatmap.values.max()))]
    assert bars(overlay(trace.pictures[0], heatmap, scale=(0.0, 1.0))) == [(0.0, 1.0)]


def test_without_colour_the_picture_is_left_in_grey():
    picture = make_trace().pictures[0]
    grey = np.asarray(picture.convert("L")) / 255
    mixed = blend(picture, field(np.eye(4, dtype=np.float32)), (0, 1), alpha=0.0)
    np.testing.assert_allclose(mixed, np.repeat(grey[..., None], 3, axis=2))


def test_full_colour_is_the_colour_map():
    picture = Image.new("RGB", (4, 2), "red")
    values = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(blend(picture, field(values), (0, 1), 1.0), style.colour_map()(values)[..., :3])


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_more_attention_is_always_lighter(grey: int):
    """On any even ground, and in the table the reports use: lightness grows with the value (CIE 1931 luminance)."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    mixed = blend(Image.new("L", (256, 1), grey).convert("RGB"), field(ramp), (0, 1))
    table = np.frombuffer(bytes.fromhex(style.colour_table()), np.uint8).reshape(256, 3) / 255
    for colours in (mixed[0], table):
        linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
        light = linear @ [0.2126, 0.7152, 0.0722]
        assert all(after >= before - 1e-9 for before, after in pairwise(light))


def test_a_constant_map_is_drawn():
    picture = Image.new("RGB", (8, 8))
    figure = overlay(picture, field(np.full((4, 4), 0.25, np.float32)))
    assert clipped(figure) == []


def test_strip_stands_maps_under_the_predicted_pictures():
    trace = make_trace(steps=20)
    figure = strip(trace, "balloon", steps=5)
    above, below = figure.axes[:5], figure.axes[5:10]
    assert [ax.get_title() for ax in above] == ["step 0", "step 5", "step 10", "step 14", "step 19"]
    thumbnails = trace.node("thumbnails")["thumbnails"].sel(step=14, image=0)
    np.testing.assert_array_equal(drawn(above[3]), thumbnails)
    np.testing.assert_allclose(drawn(below[3]), attention(trace, "balloon", steps=14).values, rtol=1e-5)
    assert (above[0].get_ylabel(), below[0].get_ylabel()) == ("predicted", "balloon")
    assert len({ax.images[0].get_clim() for ax in below}) == 1
    assert bars(figure) == [below[0].images[0].get_clim()]
    assert clipped(figure) == []


def test_strip_without_thumbnails_is_one_row():
    figure = strip(without(make_trace(steps=3), "thumbnails"), "cat")
    assert panels(figure) == ["step 0", "step 1", "step 2"]


def without(trace: Trace, node: str) -> Trace:
    tree = trace.tree.copy()
    del tree[node]
    return Trace(trace.run, trace.words, trace.tokens, trace.sites, tree, trace.pictures)


@pytest.mark.parametrize("size", [(128, 128), (192, 96), (64, 160)])
def test_pictures_keep_their_shape(size: tuple[int, int]):
    trace = make_trace()
    wide = tuple(picture.resize(size) for picture in trace.pictures)
    figure = overlays(Trace(trace.run, trace.words, trace.tokens, trace.sites, trace.tree, wide))
    assert clipped(figure) == []
    box = figure.axes[1].get_window_extent()
    assert box.width / box.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_hostile_words_are_drawn_as_they_are_and_not_clipped():
    trace = make_trace(words=WORDS)
    shown = overlays(trace)
    figures = [shown, *(strip(trace, word) for word in WORDS[::4])]
    figures.append(overlay(trace.pictures[0], attention(trace, WORDS[-1])))
    for figure in figures:
        assert clipped(figure) == []
        assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())
    assert panels(shown)[1:4] == ["$x$", "cat_2^3", "\\frac{1"]


def test_a_very_long_prompt_is_cut_visibly():
    figure = overlays(make_trace(words=tuple(f"word{i}" for i in range(60))), ["word0", "word1", "word2"])
    assert figure.get_suptitle().endswith("…”")
    assert clipped(figure) == []


def test_figures_are_nobodys_business_but_the_callers():
    from matplotlib import pyplot

    before = dict(pyplot.rcParams)
    overlays(make_trace()).savefig(io.BytesIO(), format="svg")
    assert pyplot.get_fignums() == []
    assert dict(pyplot.rcParams) == before


def test_html_figure_holds_its_own_data():
    text = html_figure(overlays(make_trace()), alt='maps of "cat" & <balloon>')
    assert 'alt="maps of &quot;cat&quot; &amp; &lt;balloon&gt;"' in text
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert found is not None
    assert b"<svg" in base64.b64decode(found[1])
    assert "http" not in text


def test_what_is_missing_is_named():
    trace = make_trace()
    with pytest.raises(NoSuchWord, match="'dragon' was not recorded"):
        overlays(trace, ["dragon"])
    with pytest.raises(NotRecorded, match="holds no attention; record it"):
        strip(without(trace, "attention"), "cat")
    bare = Trace(trace.run, trace.words, trace.tokens, trace.sites, without(trace, "thumbnails").tree)
    with pytest.raises(NotRecorded, match="neither pictures nor thumbnails"):
        overlays(bare)
    with pytest.raises(NotRecorded, match="image 3 was not recorded"):
        overlays(trace, choice=Choice(image=3))
