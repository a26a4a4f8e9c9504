"""Figures of two traces: what stands where, one scale for maps, one centred at 0 for differences."""

import numpy as np
import pytest

import probe
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.show import comparison, comparison_curves, comparison_panels
from tests.factories import make_small_trace, make_trace


@pytest.fixture(scope="module")
def found() -> probe.Comparison:
    return probe.compare(make_trace(seed=0), make_trace(seed=1, words=("balloon", "cat")))


def test_pictures_above_then_one_row_a_word(found: probe.Comparison):
    figure = comparison(found, names=("plain", "with LoRA"))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["plain", "with LoRA", "second − first", "divergence, bits"]
    labels = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()]
    assert labels == found.ranked()["word"].tolist()
    told = next(ax.texts[0].get_text() for ax in figure.axes if ax.texts)
    assert "seed: 0 → 1" in told and "prompts: a cat and a balloon → a balloon and a cat" in told


def test_the_difference_is_second_less_first_on_a_scale_that_is_even_about_zero(found: probe.Comparison):
    figure = comparison(found, ["cat"], step=2)
    image = next(ax.images[0] for ax in figure.axes if ax.get_title() == "second − first")
    maps = found.maps["share"].sel(word="cat", step=2)
    change = maps.sel(trace="second").values - maps.sel(trace="first").values
    np.testing.assert_allclose(np.asarray(image.get_array()), change)
    low, high = image.get_clim()
    assert -low == high == pytest.approx(np.abs(change).max())
    curve = next(ax.lines[0] for ax in figure.axes if ax.get_title() == "divergence, bits")
    assert curve.get_ydata() == pytest.approx(found.distances["divergence"].sel(group="all", word="cat").values)


def test_both_maps_of_all_words_are_on_one_scale(found: probe.Comparison):
    figure = comparison(found)
    bar = next(ax for ax in figure.axes if ax.get_xlabel() == "share of a cell's attention")
    means = found.maps["share"].mean("step")
    assert bar.get_xlim() == pytest.approx((float(means.min()), float(means.max())))


def test_a_trace_and_itself_are_drawn(found: probe.Comparison):
    same = probe.compare(found.first, found.first)
    told = next(ax.texts[0].get_text() for ax in comparison(same).axes if ax.texts)
    assert told == "no setting differs"
    assert len(comparison_curves(same).axes) == len(comparison_panels(same)) == 5


def test_what_was_not_compared_is_named(found: probe.Comparison):
    with pytest.raises(NoSuchWord, match="'dog' was not compared; the words are: cat, balloon"):
        comparison(found, ["dog"])
    with pytest.raises(NoMatch, match="step 9 was not compared; there are: 0, 1, 2, 3"):
        comparison(found, step=9)
    nothing = probe.compare(found.first, make_trace(words=("dog",)))
    with pytest.raises(NotRecorded, match="no word is in both"):
        comparison(nothing)
    few = comparison_panels(probe.compare(make_small_trace(), make_small_trace()))
    assert [panel.title for panel in few][1:] == ["How far latents are apart", "Attention by token, second − first"]
