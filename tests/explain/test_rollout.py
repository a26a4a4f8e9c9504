"""Rollout: with cells that look at themselves it is the attention map; otherwise as computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import probe
from probe.errors import NotRecorded
from probe.readings import word_maps
from probe.trace import Trace
from tests import pipelines
from tests.factories import make_trace

SITE = "up_blocks.1.attentions.0.transformer_blocks.0.attn1"
N = 16 * 16


def with_relation(P: np.ndarray, kind: str = "full", sites: tuple[str, ...] = (SITE,)) -> Trace:
    """A trace whose self-attention is P at every step."""
    trace, outer = make_trace(), ("site", "step", "branch", "image")
    sizes = (len(sites), 4, 1, 1)
    coords = {"site": list(sites), "step": np.arange(4), "branch": ["cond"]}
    if kind == "full":
        values = np.broadcast_to(P.reshape(N, 16, 16), (*sizes, N, 16, 16))
        node = xr.Dataset({"share": ((*outer, "cell", "y", "x"), values)}, coords)
    else:
        u, s, v = np.linalg.svd(P)
        planes = {"asking": u.T, "asked": v}
        arrays = {
            name: ((*outer, "rank", "y", "x"), np.broadcast_to(a.reshape(N, 16, 16), (*sizes, N, 16, 16)))
            for name, a in planes.items()
        }
        node = xr.Dataset(arrays | {"size": ((*outer, "rank"), np.broadcast_to(s, (*sizes, N)))}, coords)
    tree = trace.tree.copy()
    tree[f"relations/image_to_image/{kind}/16x16"] = xr.DataTree(node)
    return replace(trace, tree=tree)


@pytest.mark.parametrize("kind", ["full", "low_rank"])
def test_cells_that_look_at_themselves_leave_the_attention_map(kind: str):
    trace = with_relation(np.eye(N), kind)
    found = probe.rollout(trace, "cat", steps=[1, 2])
    np.testing.assert_allclose(found.values, probe.attention(trace, "cat", steps=[1, 2]).values, atol=1e-6)
    assert found.provenance["relation"] == f"{kind}/16x16" and found.provenance["sites"] == [SITE]


@pytest.mark.parametrize("kind", ["full", "low_rank"])
def test_every_layer_is_half_carrying_on_and_half_looking(kind: str):
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(N, 0.1), size=N)
    trace = with_relation(P, kind, (SITE, SITE.replace("attn1", "attn3")))
    m = word_maps(trace, ["cat"]).isel(word=0).values.reshape(4, N).T.astype(np.float64)
    for _ in range(2):
        m = (m + P @ m) / 2
    np.testing.assert_allclose(probe.rollout(trace, "cat").values.values.ravel(), m.mean(1), atol=1e-5)


def test_rows_that_also_look_at_text_are_means_over_cells():
    half = with_relation(np.eye(N) / 2)
    np.testing.assert_allclose(probe.rollout(half, "cat").values, probe.attention(half, "cat").values, atol=1e-6)


def test_errors_say_what_to_record():
    with pytest.raises(NotRecorded, match="image->image:low-rank"):
        probe.rollout(make_trace(), "cat")
    trace = make_trace()
    tree = trace.tree.copy()
    tree["relations/image_to_image/mean/16x16"] = xr.DataTree()
    with pytest.raises(NotRecorded, match="holds image_to_image/mean/16x16 alone"):
        probe.rollout(replace(trace, tree=tree), "cat")


def test_on_a_real_recording():
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe, relations=["image->text", "image->image:low-rank"]) as recording:
        pipelines.run(pipe, "sd1")
    found = probe.rollout(recording.trace, "cat")
    assert found.values.shape == (16, 24) and bool(np.isfinite(found.values).all())
    assert found.provenance["relation"] == "low_rank/16x24"
