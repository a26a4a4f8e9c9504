"""Attention heat maps against hand-computed traces: constants, single cells, weights by number of sites."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from probe.axes import READING
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.explain.attention import attention, curve
from probe.heatmap import Heatmap
from probe.readings import frame_maps
from probe.site import Site
from probe.trace import Run, Trace
from tests.factories import centre, make_trace

WORDS = ("cat", "dog")


def hand_made(planes: Mapping[str, np.ndarray], steps: tuple[int, ...] = (0,), total: int = 1) -> Trace:
    """A trace whose site `path` holds `planes[path]` ([y, x], or [step, y, x]) for "cat" and zero for "dog"."""
    sites, grids = [], {}
    for order, (path, plane) in enumerate(planes.items()):
        grid = (plane.shape[-2], plane.shape[-1])
        sites.append(Site(path=path, kind="cross", grid=grid, heads=2, order=order))
        grids.setdefault(grid, []).append(path)
    nodes = {f"/attention/{h}x{w}": _node(paths, planes, steps) for (h, w), paths in grids.items()}
    run = Run(prompts=("a cat and a dog",), steps=total, height=8, width=8, model="m", family="f", pipeline="p")
    return Trace(run, (), (), tuple(sites), xr.DataTree.from_dict(nodes))


def _node(paths: list[str], planes: Mapping[str, np.ndarray], steps: tuple[int, ...]) -> xr.Dataset:
    stacked = np.stack([np.broadcast_to(planes[p], (len(steps), *planes[p].shape[-2:])) for p in paths])
    values = np.zeros((len(paths), len(steps), 1, 1, 2, *stacked.shape[-2:]), np.float32)
    values[:, :, 0, 0, 0] = stacked
    coords = {"site": paths, "step": list(steps), "branch": ["cond"], "image": [0], "word": list(WORDS)}
    return xr.Dataset({"attention": (READING, values)}, coords=coords)


def one_hot(side: int, row: int, column: int) -> np.ndarray:
    plane = np.zeros((side, side), np.float32)
    plane[row, column] = 1.0
    return plane


def test_a_constant_stays_that_constant_on_the_finest_grid():
    trace = hand_made({"a": np.full((4, 4), 0.25), "b": np.full((8, 8), 0.25), "c": np.full((2, 2), 0.25)})
    heatmap = attention(trace, "cat")
    assert heatmap.values.shape == (8, 8)
    np.testing.assert_allclose(heatmap.values, 0.25, rtol=1e-6)


def test_every_site_counts_alike_whatever_its_grid():
    """Three coarse sites at 0.1 and one fine site at 0.5: (3 * 0.1 + 0.5) / 4."""
    coarse = {f"down.{i}": np.full((2, 2), 0.1) for i in range(3)}
    trace = hand_made({**coarse, "up.0": np.full((4, 4), 0.5)})
    heatmap = attention(trace, "cat")
    np.testing.assert_allclose(heatmap.values, 0.2, rtol=1e-6)
    assert heatmap.provenance["sites_by_grid"] == {"2x2": 3, "4x4": 1}


def test_a_single_cell_comes_back_where_it_was():
    heatmap = attention(hand_made({"a": one_hot(8, 2, 5)}), "cat")
    np.testing.assert_array_equal(heatmap.values, one_hot(8, 2, 5))
    assert heatmap.peak == (2, 5)


def test_a_coarse_cell_is_spread_bilinearly():
    """Half-pixel centres: a 2 x 2 corner on 4 x 4 has the weights 1, 0.75, 0.25, 0 along each side."""
    trace = hand_made({"coarse": one_hot(2, 0, 0), "fine": np.zeros((4, 4))})
    side = np.array([1.0, 0.75, 0.25, 0.0])
    np.testing.assert_allclose(attention(trace, "cat").values, np.outer(side, side) / 2, atol=1e-6)


def test_not_square_grids_keep_rows_and_columns_apart():
    plane = np.zeros((2, 6), np.float32)
    plane[1, 4] = 1.0
    heatmap = attention(hand_made({"a": plane, "b": np.zeros((1, 3))}), "cat")
    assert heatmap.values.shape == (2, 6)
    assert heatmap.peak == (1, 4)


def test_sites_are_chosen_by_pattern_or_by_object():
    trace = hand_made({"down.0": one_hot(4, 0, 0), "up.0": one_hot(4, 3, 3), "up.1": one_hot(2, 0, 1)})
    assert attention(trace, "cat", sites="up.0").peak == (3, 3)
    assert attention(trace, "cat", sites=trace.sites[:1]).peak == (0, 0)
    assert attention(trace, "cat", sites=["down*", "up.0"]).values.sum() == pytest.approx(1.0)
    alone = attention(trace, "cat", sites="up.1")
    assert alone.values.shape == (2, 2), "the finest chosen grid, not the finest of the trace"


def test_a_site_is_taken_by_its_whole_name_when_given_as_an_object():
    trace = hand_made({"up.1": one_hot(4, 0, 0), "up.10": one_hot(4, 3, 3)})
    assert attention(trace, "cat", sites=[trace.sites[0]]).provenance["sites"] == ["up.1"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(None, 1.5), (1, 1.0), (-1, 3.0), (slice(0, 2), 0.5), (slice(2, None), 2.5), ([0, 3], 1.5)],
)
def test_steps_are_python_indices(steps: int | slice | list[int] | None, expected: float):
    planes = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 2, 2), np.float32)
    trace = hand_made({"a": planes}, steps=(0, 1, 2, 3), total=4)
    np.testing.assert_allclose(attention(trace, "cat", steps=steps).values, expected)


def test_the_curve_is_mean_and_maximum_of_each_step():
    planes = np.stack([one_hot(4, 1, 1) * 0.8, np.full((4, 4), 0.5, np.float32)])
    line = curve(hand_made({"a": planes}, steps=(0, 1), total=2), "cat")
    assert line.dims == ("step", "statistic")
    np.testing.assert_allclose(line.sel(statistic="mean"), [0.05, 0.5], rtol=1e-6)
    np.testing.assert_allclose(line.sel(statistic="max"), [0.8, 0.5], rtol=1e-6)
    assert line.name == "cat"


def film_of_two_frames() -> Trace:
    """0 in the first frame of the latents, 0.5 in the second."""
    trace = hand_made({"a": np.zeros((2, 2))})
    node = trace.tree["attention/2x2"].to_dataset()
    frames = xr.concat([node["attention"], node["attention"] + 0.5], "frame").transpose(*READING[:5], "frame", "y", "x")
    trace.tree["attention/2x2"] = node.drop_vars("attention").assign(attention=frames)
    return trace


@pytest.mark.parametrize(("frame", "expected"), [(None, 0.25), (0, 0.0), (1, 0.5), (-1, 0.5), (-2, 0.0)])
def test_of_a_film_it_is_one_frame_or_the_mean_over_all(frame: int | None, expected: float):
    heatmap = attention(film_of_two_frames(), "cat", frame=frame)
    np.testing.assert_allclose(heatmap.values, expected)
    assert heatmap.provenance.get("frame") == frame
    assert float(curve(film_of_two_frames(), "cat", frame=frame).max()) == expected


def test_all_frames_are_their_maps_one_after_the_other():
    found = frame_maps(film_of_two_frames(), "cat")
    assert found.dims == ("frame", "y", "x")
    np.testing.assert_allclose(found.values, [np.zeros((2, 2)), np.full((2, 2), 0.5)])


def test_a_frame_that_is_not_there_is_named():
    with pytest.raises(NotRecorded, match="this trace has no frame 2: its latents have 2, from 0"):
        attention(film_of_two_frames(), "cat", frame=2)
    with pytest.raises(NotRecorded, match="this trace has no frame 0: it is of pictures, so leave `frame` out"):
        frame_maps(make_trace(), "cat")


def test_a_recorded_trace_gives_a_labelled_heatmap():
    trace = make_trace(steps=4)
    heatmap = attention(trace, "Balloon", steps=slice(2, 4))
    assert isinstance(heatmap, Heatmap)
    assert (heatmap.subject, heatmap.method, heatmap.units) == ("balloon", "attention", "share of a cell's attention")
    assert heatmap.provenance["steps"] == [2, 3]
    row, column = heatmap.peak
    assert ((row + 0.5) / 16, (column + 0.5) / 16) == pytest.approx(centre("balloon"), abs=0.1)


def test_each_picture_and_branch_has_its_own_map():
    trace = make_trace(images=2, branches=("cond", "uncond"))
    first, second = attention(trace, "cat"), attention(trace, "cat", image=1)
    assert first.peak[0] < second.peak[0]
    assert float(attention(trace, "cat", branch="uncond").values.max()) < float(first.values.max())


def test_shares_of_all_words_sum_to_one():
    trace = make_trace()
    total = sum(attention(trace, label).values for label in trace.labels)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


def test_what_is_not_there_is_named_with_what_is():
    trace = make_trace(steps=4)
    with pytest.raises(NoSuchWord, match=r"'dragon' was not recorded; the words of this trace are: cat, balloon"):
        attention(trace, "dragon")
    with pytest.raises(NoMatch, match=r"no site matches pattern='middle'.*there are:\n  down_blocks"):
        attention(trace, "cat", sites="middle")
    with pytest.raises(NoMatch, match=r"steps=slice\(9, None, None\) selects none of the recorded steps 0, 1, 2, 3"):
        attention(trace, "cat", steps=slice(9, None))
    with pytest.raises(NotRecorded, match=r"step 7 was not recorded; this trace holds step 0, 1, 2, 3"):
        attention(trace, "cat", steps=7)
    with pytest.raises(NotRecorded, match=r"branch 'uncond' was not recorded; this trace holds branch 'cond'"):
        attention(trace, "cat", branch="uncond")
    with pytest.raises(NotRecorded, match=r"image 5 was not recorded; this trace holds image 0"):
        attention(trace, "cat", image=5)


def test_a_trace_without_attention_says_how_to_record_it():
    bare = hand_made({"a": np.zeros((2, 2))})
    bare = Trace(bare.run, (), (), bare.sites, xr.DataTree())
    with pytest.raises(NotRecorded, match=r"holds no attention; record it with probe.record"):
        attention(bare, "cat")
    with pytest.raises(NotRecorded, match="holds no attention"):
        curve(bare, "cat")


def test_a_site_without_readings_is_named():
    trace = hand_made({"a": np.zeros((2, 2))})
    other = Site(path="elsewhere", kind="self", grid=(2, 2), heads=2, order=9)
    trace = Trace(trace.run, (), (), (*trace.sites, other), trace.tree)
    with pytest.raises(NotRecorded, match="no readings of elsewhere in this trace; recorded are: a"):
        attention(trace, "cat", sites=[other])
    assert attention(trace, "cat").provenance["sites"] == ["a"]


def test_patterns_pass_over_sites_that_hold_no_words():
    """A self-attention that was recorded for its relations lies in the same block."""
    trace = make_trace()
    beside = Site(path="up_blocks.1.attentions.0.attn1", kind="self", grid=(8, 8), heads=4, order=99)
    both = replace(trace, sites=(*trace.sites, beside))
    for patterns in ("up_blocks", ["up_blocks"]):
        assert attention(both, "cat", sites=patterns).values.equals(attention(trace, "cat", sites=patterns).values)


def with_heads(coarse: np.ndarray, fine: np.ndarray) -> Trace:
    """Two sites of one and of three heads; `coarse` [y, x] and `fine` [head, y, x] are what the heads give to "cat"."""
    trace = hand_made({"a": coarse, "b": fine.mean(0)})
    sites = tuple(site.model_copy(update={"heads": 1 if site.path == "a" else 3}) for site in trace.sites)
    axes = (*READING[:4], "head", *READING[4:])
    parts = {f"/attention/{n}x{n}": trace.node(f"attention/{n}x{n}") for n in (2, 4)}
    for n, path, planes in ((2, "a", coarse[None]), (4, "b", fine)):
        values = np.zeros((1, 1, 1, 1, len(planes), 2, n, n), np.float32)
        values[0, 0, 0, 0, :, 0] = planes
        coords = {"site": [path], "step": [0], "branch": ["cond"], "image": [0], "word": list(WORDS)}
        node = xr.Dataset({"attention": (axes, values)}, coords=coords | {"head": range(len(planes))})
        parts[f"/heads/{n}x{n}"] = node
    return replace(trace, sites=sites, tree=xr.DataTree.from_dict(parts))


def test_chosen_heads_of_the_sites_that_have_them():
    rng = np.random.default_rng(0)
    coarse, fine = np.full((2, 2), 0.5, np.float32), rng.random((3, 4, 4), dtype=np.float32)
    trace = with_heads(coarse, fine)
    np.testing.assert_allclose(attention(trace, "cat", heads=2).values, fine[2], atol=1e-6)
    np.testing.assert_allclose(attention(trace, "cat", heads=[1, 2]).values, fine[1:].mean(0), atol=1e-6)
    np.testing.assert_allclose(attention(trace, "cat", heads=[0, 1]).values, (0.5 + fine[:2].mean(0)) / 2, atol=1e-6)
    np.testing.assert_allclose(
        attention(trace, "cat", heads=range(3)).values, attention(trace, "cat").values, atol=1e-6
    )
    assert attention(trace, "cat", heads=2).provenance["heads"] == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heads": 7}, "head 7 was not kept apart; this trace holds head 0, 1, 2"),
        ({"heads": ()}, "head none"),
        ({"heads": 2, "sites": "a"}, "no chosen site has head 2"),
    ],
)
def test_heads_that_are_not_there(given, said):
    with pytest.raises(NotRecorded, match=said):
        attention(with_heads(np.ones((2, 2), np.float32), np.ones((3, 4, 4), np.float32)), "cat", **given)
    with pytest.raises(NotRecorded, match="keeps no heads apart"):
        attention(make_trace(), "cat", heads=0)
