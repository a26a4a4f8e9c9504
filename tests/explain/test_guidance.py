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


def test_of_a_film_it_is_the_mean_over_frames():
    trace = make_trace()
    node = trace.node("guidance")
    frames = xr.concat([node["magnitude"], 3 * node["magnitude"]], "frame").transpose(
        "step", "image", "frame", "y", "x"
    )
    trace.tree["guidance"] = node.assign(magnitude=frames)
    expected = 2 * node["magnitude"].sel(image=0).mean("step")
    np.testing.assert_allclose(probe.guidance(trace).values, expected, rtol=1e-6)
    shown = probe.show.guidance_strip(trace, steps=2).axes[2].images[0].get_array()
    np.testing.assert_allclose(shown, 2 * node["magnitude"][0, 0], rtol=1e-6)


def test_directions_have_a_step_axis_alone():
    found = directions(make_trace(images=2), image=1)
    assert set(found.dims) == {"step"} and {"cosine_previous", "cosine_final", "difference_norm"} <= set(found)


def test_directions_hold_the_norms_of_a_negative_prompt():
    trace = make_trace()
    node = trace.node("guidance")
    trace.tree["guidance"] = node.assign(negative_norm=node["difference_norm"] + 1)
    found = directions(trace)
    np.testing.assert_allclose(found["negative_norm"], found["difference_norm"] + 1)


def test_without_a_second_branch_it_says_so():
    trace = make_trace()
    tree = trace.tree.copy()
    node = tree["guidance"].to_dataset().drop_vars("magnitude").assign_attrs(method="distilled: no second branch")
    tree["guidance"] = xr.DataTree(node)
    with pytest.raises(NotRecorded, match="distilled.*guidance_scale above 1"):
        probe.guidance(replace(trace, tree=tree))
    with pytest.raises(NotRecorded, match=r"probe.LeaveOneOut\(\)"):
        probe.guidance(trace, "cat")
