"""The guidance's map and directions, from traces made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import probe
from probe.errors import NotRecorded
from probe.explain.guidance import directions
from tests.factories import make_trace


def test_the_map_is_the_mean_over_steps_of_the_magnitude():
    trace = make_trace(images=2)
    heatmap = probe.guidance(trace, steps=[0, 1], image=1)
    expected = trace.node("guidance")["magnitude"][:2, 1].mean("step")
    np.testing.assert_array_equal(heatmap.values, expected)
    assert heatmap.subject == trace.prompt and heatmap.provenance["steps"] == [0, 1]


def test_directions_have_a_step_axis_alone():
    found = directions(make_trace(images=2), image=1)
    assert set(found.dims) == {"step"} and {"cosine_previous", "cosine_final", "difference_norm"} <= set(found)


def test_without_a_second_branch_it_says_so():
    trace = make_trace()
    tree = trace.tree.copy()
    node = tree["guidance"].to_dataset().drop_vars("magnitude").assign_attrs(method="distilled: no second branch")
    tree["guidance"] = xr.DataTree(node)
    with pytest.raises(NotRecorded, match="distilled.*guidance_scale above 1"):
        probe.guidance(replace(trace, tree=tree))
    with pytest.raises(NotRecorded, match=r"probe.LeaveOneOut\(\)"):
        probe.guidance(trace, "cat")
