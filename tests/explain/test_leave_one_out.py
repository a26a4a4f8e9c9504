"""What is read of leave-one-out and of Shapley values, from traces made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import probe
from probe.errors import BadInput, NoMatch, NoSuchWord, NotRecorded
from probe.explain.leave_one_out import shares
from probe.explain.shapley import values
from probe.trace import Trace
from tests.factories import make_trace


def with_node(name: str, **variables: xr.DataArray) -> Trace:
    """A trace that also holds this node."""
    trace, tree = make_trace(), make_trace().tree.copy()
    tree[name] = xr.DataTree(xr.Dataset(variables, attrs={"against": "uncond", "replace": "padding"}))
    return replace(trace, tree=tree)


def array(*sizes: int, units: str = "u") -> xr.DataArray:
    """(step 0 and 2, image, word, ...) of consecutive numbers."""
    dims = ("step", "image", "word", "y", "x")[: len(sizes)]
    labels = {"step": [0, 2], "image": [0, 1], "word": ["cat", "balloon"]}
    coords = {dim: labels[dim] for dim in dims if dim in labels}
    return xr.DataArray(
        np.arange(np.prod(sizes), dtype=np.float32).reshape(sizes), coords, dims, attrs={"units": units}
    )


@pytest.fixture(scope="module")
def trace() -> Trace:
    parts = {"share": array(2, 2, 2), "interaction": array(2, 2), "magnitude": array(2, 2, 2, 3, 4, units="output")}
    return with_node("leave_one_out", **parts)


def test_the_heatmap_is_the_mean_over_steps_of_one_word(trace: Trace):
    heatmap = probe.leave_one_out(trace, "Balloon", image=1)
    expected = array(2, 2, 2, 3, 4).sel(word="balloon", image=1).mean("step")
    np.testing.assert_array_equal(heatmap.values, expected)
    assert (heatmap.subject, heatmap.units, heatmap.method) == ("balloon", "output", "leave_one_out")
    assert heatmap.provenance["steps"] == [0, 2] and heatmap.provenance["against"] == "uncond"
    np.testing.assert_array_equal(
        probe.leave_one_out(trace, "cat", steps=2).values, array(2, 2, 2, 3, 4)[1, 0, 0].drop_vars("step")
    )


def test_shares_end_with_what_words_do_together(trace: Trace):
    found = shares(trace, image=1)
    assert list(found["word"].values) == ["cat", "balloon", "<interaction>"]
    np.testing.assert_allclose(found, [(2 + 6) / 2, (3 + 7) / 2, (1 + 3) / 2])


def test_errors_say_what_to_record(trace: Trace):
    with pytest.raises(NotRecorded, match=r"explain=probe.LeaveOneOut\(\)"):
        probe.leave_one_out(make_trace(), "cat")
    with pytest.raises(NotRecorded, match=r"explain=probe.Shapley\(\)"):
        probe.shapley(make_trace(), "cat")
    with pytest.raises(NoSuchWord, match="cat, balloon"):
        probe.leave_one_out(trace, "dog")
    with pytest.raises(NotRecorded, match="step 1 was not recorded"):
        probe.leave_one_out(trace, "cat", steps=1)
    with pytest.raises(NoMatch, match="none of the recorded steps"):
        probe.leave_one_out(trace, "cat", steps=slice(3, 4))
    with pytest.raises(NotRecorded, match="holds no picture 5; it holds 0, 1"):
        probe.leave_one_out(trace, "cat", image=5)


def test_errors_of_values_shrink_with_the_steps():
    trace = with_node("shapley", share=array(2, 2, 2), error=array(2, 2, 2) * 0 + 3, value=array(2, 2, 2, 3, 4))
    found = values(trace)
    np.testing.assert_allclose(found["share"], [(0 + 4) / 2, (1 + 5) / 2])
    np.testing.assert_allclose(found["error"], 3 / np.sqrt(2))
    assert probe.shapley(trace, "cat").method == "shapley"


def test_the_change_between_two_runs():
    trace = make_trace()
    tree = trace.tree.copy()
    latents = tree["latents"].to_dataset().copy(deep=True)
    latents["latents"][-1, 0, :2, 3, 5] += np.array([3.0, 4.0], np.float16)
    tree["latents"] = xr.DataTree(latents)
    change = probe.change(trace, replace(trace, tree=tree))
    assert float(change[3, 5]) == pytest.approx(5.0, abs=0.01)
    assert float(change.sum()) == pytest.approx(5.0, abs=0.01)
    with pytest.raises(BadInput, match="runs of one size"):
        probe.change(trace, make_trace(size=64))
