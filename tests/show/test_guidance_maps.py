"""Where guidance pulls: one scale, the steps spread over the run, and no figure without a second branch."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from probe.errors import NotRecorded
from probe.show import guidance_strip
from probe.show.guidance_maps import PULL_UNITS
from tests.factories import make_trace


def test_the_first_and_the_last_step_are_shown_on_one_scale():
    trace = make_trace(steps=6)
    axes = guidance_strip(trace, steps=3).axes
    assert [ax.get_title() for ax in axes[:3]] == ["step 0", "step 2", "step 5"]
    drawn = [ax.images[0] for ax in axes[3:6]]
    held = trace.node("guidance")["magnitude"].sel(image=0, step=[0, 2, 5])
    for image, plane in zip(drawn, held.values, strict=True):
        np.testing.assert_array_equal(np.asarray(image.get_array()), plane)
        assert image.get_clim() == pytest.approx((float(held.min()), float(held.max())))
    assert axes[-1].get_xlabel() == PULL_UNITS


def test_without_pictures_there_is_one_row():
    trace = make_trace()
    kept = {node.path: node.to_dataset(inherit=False) for node in trace.tree.subtree if node.name != "thumbnails"}
    figure = guidance_strip(replace(trace, tree=xr.DataTree.from_dict(kept)), steps=2)
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["pull"]


def test_without_a_second_branch_it_says_so():
    trace = make_trace()
    trace.tree["guidance"] = trace.node("guidance").drop_vars("magnitude")
    with pytest.raises(NotRecorded, match="nothing pulled"):
        guidance_strip(trace)
