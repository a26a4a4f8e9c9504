"""The signals of a diagnosis against numbers that were worked out by hand."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from probe.nurse.diagnosis_signals import (
    EXPLAINED,
    Cast,
    leads,
    log_odds,
    lost_at,
    nearest_sites,
    read_signals,
    summary,
)
from probe.nurse.maps import kernel
from tests.factories import make_trace
from tests.nurse.casts import SIDE, spot, trace_of

CENTRE = float(kernel()[1, 1])  # of an isolated cell, what is left of it by smoothing
REST = 1 - CENTRE  # and what its neighbours bring
CAST = Cast(("cat", "dog"))
PROMPT = "a cat and a dog"


def two(cat: list[float], dog: list[float], *, apart: int = 8) -> xr.Dataset:
    """The signals of a cat and a dog with cells of these heights at each step."""
    maps = {"cat": [spot(4, 4, h) for h in cat], "dog": [spot(4, 4 + apart, h) for h in dog]}
    return read_signals(trace_of(PROMPT, maps), CAST)


def test_attention_is_the_largest_cell_of_the_smoothed_map():
    found = two([0.5, 0.4], [0.1, 0.05])
    expected = [[CENTRE * h + REST * 0.001 for h in row] for row in ((0.5, 0.4), (0.1, 0.05))]
    assert found["attention"].values == pytest.approx(np.array(expected), rel=1e-5)


def test_presence_is_that_of_the_sharpened_map_in_float64():
    """Every word is recorded, so it is Attend-and-Excite's own softmax; padding is even in this trace."""
    words = {
        "cat": spot(4, 4, 0.05),
        "dog": spot(9, 9, 0.02),
        "a": spot(0, 0, 0.03),
        "and": spot(2, 2),
        "a#2": spot(1, 1),
    }
    trace = trace_of(PROMPT, {word: [plane] for word, plane in words.items()})
    rest = 1 - sum(words.values())
    padding = sum(t.special == "<padding>" for t in trace.tokens)
    single = np.stack([*words.values(), 0.05 * rest])
    weights = np.exp(100 * single)
    below = weights.sum(0) + (padding - 1) * np.exp(100 * 0.05 * rest / (padding - 1))
    sharp = np.pad(weights[0] / below, 1, mode="reflect")
    k = kernel().double().numpy()
    smooth = [[(k * sharp[y : y + 3, x : x + 3]).sum() for x in range(SIDE)] for y in range(SIDE)]
    found = read_signals(trace, CAST)["presence"].sel(subject="cat").item()
    assert found == pytest.approx(np.max(smooth), rel=1e-4)


def test_without_special_tokens_presence_is_not_known():
    trace = trace_of(PROMPT, {"cat": [spot(4, 4)], "dog": [spot(4, 9)]}, special=())
    found = read_signals(trace, CAST)
    assert np.isnan(found["presence"]).all()
    assert math.isnan(summary(found, "cat")["presence"])


def test_relative_compares_what_was_reached_so_far():
    found = two([0.1, 0.5, 0.2], [0.1, 0.1, 0.1])
    low, high = CENTRE * 0.1 + REST * 0.001, CENTRE * 0.5 + REST * 0.001
    assert found["relative"].sel(subject="dog").values == pytest.approx([1, low / high, low / high], rel=1e-5)
    assert summary(found, "dog")["relative"] == pytest.approx(low / high, rel=1e-5)


@pytest.mark.parametrize(
    ("cat", "dog", "step"),
    [([0.1, 0.5, 0.5], [0.1, 0.1, 0.1], 1), ([0.5] * 3, [0.1] * 3, 0), ([0.5] * 3, [0.1, 0.1, 0.4], None)],
)
def test_lost_is_the_step_from_which_on_the_others_are_ahead(cat: list[float], dog: list[float], step: int | None):
    found = two(cat, dog)
    assert (lost_at(found, "cat"), lost_at(found, "dog")) == (None, step)


def test_kept_and_share():
    found = two([0.4, 0.2], [0.2, 0.1])
    at = {h: CENTRE * h + REST * 0.001 for h in (0.1, 0.2, 0.4)}
    assert found["kept"].values == pytest.approx([at[0.2] / at[0.4], at[0.1] / at[0.2]], rel=1e-5)
    cat, dog = (0.001 * 255 + 0.3, 0.001 * 255 + 0.15)  # summed over cells, mean over steps
    assert found["share"].values == pytest.approx([cat / (cat + dog), dog / (cat + dog)], rel=1e-5)


def test_lead_is_by_how_much_a_subject_is_ahead_of_the_others_at_its_best_cell():
    strong, weak, low = (CENTRE * h + REST * 0.001 for h in (0.4, 0.1, 0.001))
    apart = two([0.1, 0.4], [0.4, 0.1])  # of the last step alone
    assert apart["lead"].values == pytest.approx([(strong - low) / strong, (weak - low) / strong], rel=1e-4)
    together = two([0.4], [0.1], apart=0)["lead"].values
    assert together[0] == pytest.approx((strong - weak) / strong, rel=1e-4)
    assert together[1] == pytest.approx(0.0, abs=1e-5)  # far away both are read alike
    behind = leads(torch.tensor([[[0.4, 0.2]], [[0.3, 0.1]], [[0.5, 0.1]]]))
    assert behind.tolist() == pytest.approx([0.2, -0.2, 0.2])
    alone = trace_of("a cat", {"cat": [spot(4, 4)]})
    assert read_signals(alone, Cast(("cat",)))["lead"].values == pytest.approx([1.0])


def test_log_odds_are_finite_and_keep_what_is_not_known():
    assert log_odds(0.5) == 0 and log_odds(0.8) == pytest.approx(math.log(4))
    assert [log_odds(1.0), log_odds(0.0)] == pytest.approx([math.log(9999), -math.log(9999)])
    assert math.isnan(log_odds(math.nan))


@pytest.mark.parametrize(("apart", "low", "high"), [(0, 1 - 1e-5, 1 + 1e-5), (8, 0.0, 0.4)])
def test_overlap_of_equal_and_of_distant_maps(apart: int, low: float, high: float):
    found = two([0.5], [0.5], apart=apart)["overlap"]
    assert low <= found.sel(subject="cat", other="dog").item() <= high
    assert np.isnan(found.sel(subject="cat", other="cat").item())


def test_a_leak_is_an_attribute_that_sits_on_the_other_noun():
    maps = {"red": spot(4, 12), "car": spot(4, 4), "blue": spot(4, 12), "bowl": spot(4, 12)}
    trace = trace_of("a red car and a blue bowl", {word: [plane] for word, plane in maps.items()})
    found = read_signals(trace, Cast(("car", "bowl"), {"car": "red", "bowl": "blue"}))["leak"]
    apart = 256 * 0.001 / (255 * 0.001 + 0.5)  # what two spots at different places share
    assert found.sel(subject="bowl", other="car").item() == pytest.approx(1 - apart, rel=1e-4)  # red sits on the bowl
    assert found.sel(subject="car", other="bowl").item() == pytest.approx(apart - 1, rel=1e-4)


def test_an_attribute_that_both_have_cannot_leak():
    maps = {"red": spot(4, 12), "cat": spot(4, 4), "red#2": spot(4, 12), "dog": spot(4, 12)}
    trace = trace_of("a red cat and a red dog", {word: [plane] for word, plane in maps.items()})
    found = read_signals(trace, Cast(("cat", "dog"), {"cat": "red", "dog": "red#2"}))["leak"]
    assert np.isnan(found.values).all()


def test_only_the_steps_before_until_are_read():
    maps = {"cat": [spot(4, 4, h) for h in (0.1, 0.2, 0.9)], "dog": [spot(4, 9, 0.1)] * 3}
    early = read_signals(trace_of(PROMPT, maps), CAST, until=2)
    other = read_signals(trace_of(PROMPT, {**maps, "cat": [*maps["cat"][:2], spot(1, 1, 0.0)]}), CAST, until=2)
    assert early["step"].values.tolist() == [0, 1]
    xr.testing.assert_identical(early, other)


def test_the_grid_nearest_to_the_papers_is_read():
    trace = make_trace(grids=((32, 32), (16, 16), (8, 8)))
    assert {site.grid for site in nearest_sites(trace)} == {(16, 16)}
    assert {site.grid for site in nearest_sites(make_trace(grids=((64, 64), (24, 24))))} == {(24, 24)}


@pytest.mark.parametrize(("node", "variable"), EXPLAINED.items())
def test_what_explainers_found_is_shared_among_the_subjects(node: str, variable: str):
    trace = trace_of(PROMPT, {"cat": [spot(4, 4)] * 2, "dog": [spot(4, 9)] * 2})
    values = np.stack([np.full((4, 4), 3.0), np.full((4, 4), 1.0)])[None, None]  # [step, image, word, y, x]
    coords = {"step": [1], "word": ["cat", "dog"]}
    data = xr.Dataset({variable: (("step", "image", "word", "y", "x"), values)}, coords=coords)
    trace.tree[node] = xr.DataTree(data)
    assert read_signals(trace, CAST)[node].values == pytest.approx([0.75, 0.25])
    assert np.isnan(read_signals(trace, CAST, until=1)[node].values).all()  # it looked at step 1 only
    assert np.isnan(two([0.5], [0.5])[node].values).all()
