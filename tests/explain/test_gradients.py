"""What is read of attributions, from traces made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import probe
from probe.errors import NoSuchWord, NotRecorded
from probe.trace import Trace
from tests.factories import make_trace

VALUES = np.random.default_rng(0).normal(size=(2, 1, 2, 3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def trace() -> Trace:
    made = make_trace()
    coords = {"step": [0, 2], "image": [0], "word": ["cat", "<end>"]}
    maps = xr.DataArray(VALUES, coords, ("step", "image", "word", "y", "x"), attrs={"units": "u"})
    tree = made.tree.copy()
    tree["gradients/latents"] = xr.DataTree(xr.Dataset({"map": maps}, attrs={"method": "saliency"}))
    tree["gradients/text"] = xr.DataTree(xr.Dataset({"score": maps.sum(("y", "x"))}))
    return replace(made, tree=tree)


def test_maps_and_scores_are_means_over_steps(trace: Trace):
    heatmap = probe.gradients(trace, "cat")
    np.testing.assert_allclose(heatmap.values, VALUES[:, 0, 0].mean(0), rtol=1e-6)
    assert heatmap.provenance["method"] == "saliency" and heatmap.units == "u"
    scores = probe.token_scores(trace, steps=2)
    np.testing.assert_allclose(scores, VALUES[1, 0].sum((1, 2)), rtol=1e-5)
    assert list(scores["word"].values) == ["cat", "<end>"]


def test_errors_say_what_to_record(trace: Trace):
    with pytest.raises(NotRecorded, match=r"probe.Gradients\(\)"):
        probe.gradients(make_trace(), "cat")
    with pytest.raises(NotRecorded, match=r"probe.Gradients\(on='text'\)"):
        probe.token_scores(make_trace())
    with pytest.raises(NoSuchWord, match="cat, <end>"):
        probe.gradients(trace, "dog")
