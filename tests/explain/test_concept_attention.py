"""Concept attention from traces made by hand: a softmax over concepts, mean over sites, steps and grids."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import probe
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.trace import Trace
from tests.factories import make_trace

WORDS = ["cat", "zebra", "background"]


def with_scores(**grids: np.ndarray) -> Trace:
    """A trace with scores [site, step, image, word, y, x] by grid."""
    trace = make_trace()
    tree = trace.tree.copy()
    for grid, score in grids.items():
        coords = {"site": [f"{grid}.{i}" for i in range(len(score))], "step": [0, 2], "image": [0], "word": WORDS}
        dims = ("site", "step", "image", "word", "y", "x")
        tree[f"concepts/{grid}"] = xr.DataTree(xr.Dataset({"score": (dims, score)}, coords))
    return replace(trace, tree=tree)


SCORES = np.random.default_rng(0).normal(0, 3, (2, 2, 1, 3, 4, 6))


def test_the_map_is_the_mean_probability_among_the_concepts():
    heatmap = probe.concept_attention(with_scores(a4x6=SCORES), "Zebra", steps=2)
    p = np.exp(SCORES) / np.exp(SCORES).sum(3, keepdims=True)
    np.testing.assert_allclose(heatmap.values, p[:, 1, 0, 1].mean(0), rtol=1e-5)
    assert heatmap.subject == "zebra" and heatmap.provenance["concepts"] == WORDS


def test_over_all_concepts_it_sums_to_one():
    trace = with_scores(a4x6=SCORES, b2x3=SCORES[:1, ..., :2, :3])
    total = sum(probe.concept_attention(trace, word).values for word in WORDS)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    assert len(probe.concept_attention(trace, "cat").provenance["sites"]) == 3


def test_sites_are_chosen_by_a_pattern():
    trace = with_scores(a4x6=SCORES, b2x3=SCORES[:1, ..., :2, :3])
    assert probe.concept_attention(trace, "cat", sites="b2x3").values.shape == (2, 3)
    assert probe.concept_attention(trace, "cat", sites=["b2x3", "nowhere"]).values.shape == (2, 3)
    with pytest.raises(NoMatch, match="matches none"):
        probe.concept_attention(trace, "cat", sites="c")


def test_errors_say_what_to_record():
    with pytest.raises(NotRecorded, match=r"explain=probe.Concepts\("):
        probe.concept_attention(make_trace(), "cat")
    with pytest.raises(NoSuchWord, match="cat, zebra, background"):
        probe.concept_attention(with_scores(a4x6=SCORES), "dog")
