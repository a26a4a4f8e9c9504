"""Tables of what sites carry, from traces made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from probe.errors import BadInput, NotRecorded
from probe.explain.roles import by_group, carried, profile
from probe.trace import Trace
from tests.factories import make_trace


def with_roles() -> Trace:
    trace = make_trace()
    paths, words = [site.path for site in trace.sites], ["cat", "balloon"]
    effect = np.arange(16.0).reshape(2, 1, 4, 2)
    coords = {"step": [0, 1], "image": [0], "site": paths}
    tree = trace.tree.copy()
    dims = ("step", "image", "site", "word")
    tree["roles/ablation"] = xr.DataTree(xr.Dataset({"effect": (dims, effect)}, coords | {"word": words}))
    recovered = xr.Dataset({"recovered": (dims[:3], effect[..., 0] / 10)}, coords, attrs={"source": "a dog"})
    tree["roles/patching"] = xr.DataTree(recovered)
    return replace(trace, tree=tree)


def test_a_profile_shares_out_each_words_effects():
    found = profile(with_roles())
    mean = np.arange(16.0).reshape(2, 4, 2).mean(0)
    np.testing.assert_allclose(found, mean / mean.sum(0))
    assert found["cells"].values.tolist() == [256, 64, 64, 256]
    grouped = by_group(found)
    assert grouped["group"].values.tolist() == ["down_blocks", "up_blocks"]
    np.testing.assert_allclose(grouped.sel(group="up_blocks"), (mean / mean.sum(0))[2:].sum(0))


def test_what_is_carried_is_the_mean_over_steps():
    found = carried(with_roles(), steps=1)
    np.testing.assert_allclose(found, [0.8, 1.0, 1.2, 1.4])
    assert found.attrs["source"] == "a dog"


def test_errors_say_what_to_record():
    with pytest.raises(NotRecorded, match=r"probe.Ablation\(\)"):
        profile(make_trace())
    with pytest.raises(NotRecorded, match=r"probe.Patching\(source="):
        carried(make_trace())
    with pytest.raises(BadInput, match="no groups"):
        by_group(xr.DataArray(np.zeros(2), dims="site"))
