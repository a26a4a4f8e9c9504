"""Relevancy from a recording: the node, the explainer, and its errors."""

import numpy as np
import pytest

import probe
from probe.errors import BadInput, NoMatch, NoSuchWord, NotRecorded
from tests import pipelines
from tests.factories import make_trace


@pytest.fixture(scope="module")
def trace():
    pipe = pipelines.load("sd1")
    plain = pipelines.run(pipe, "sd1")
    with probe.record(pipe, explain=probe.Relevancy(steps=(0, 1))) as recording:
        explained = pipelines.run(pipe, "sd1")
    assert np.array_equal(plain, explained)  # explaining changes nothing
    return recording.trace


def test_every_content_word_has_a_map_at_the_latents_resolution(trace):
    node = trace.node("relevancy")["relevancy"]
    assert node.dims == ("step", "image", "word", "y", "x")
    assert list(node["word"].values) == ["cat", "red", "balloon"]
    assert node.shape[-2:] == (16, 24) and float(node.min()) >= 0 and float(node.max()) > 0


def test_the_heatmap_is_the_mean_over_steps(trace):
    heatmap = probe.relevancy(trace, "cat")
    expected = trace.node("relevancy")["relevancy"].sel(word="cat").isel(image=0).mean("step")
    np.testing.assert_allclose(heatmap.values, expected, rtol=1e-6)
    assert heatmap.method == "relevancy" and heatmap.provenance["target"] == "guidance"


def test_a_box_explains_only_what_is_inside():
    pipe = pipelines.load("sd1")
    sums = []
    for box in (None, (0.0, 0.0, 0.25, 0.25)):
        with probe.record(pipe, explain=probe.Relevancy(steps=(0,), box=box)) as recording:
            pipelines.run(pipe, "sd1")
        sums.append(float(probe.relevancy(recording.trace, "cat").values.sum()))
    assert 0 < sums[1] < sums[0]


def test_errors_say_what_to_record(trace):
    with pytest.raises(NotRecorded, match=r"explain=probe.Relevancy\(\)"):
        probe.relevancy(make_trace(), "cat")
    with pytest.raises(NoSuchWord, match="cat, red, balloon"):
        probe.relevancy(trace, "dog")
    with pytest.raises(NoMatch, match="explained steps"):
        probe.relevancy(trace, "cat", steps=7)
    with pytest.raises(NoMatch, match="no picture 3"):
        probe.relevancy(trace, "cat", image=3)


def test_guidance_needs_both_branches_and_a_box_needs_cells():
    pipe = pipelines.load("sd1")
    with pytest.raises(BadInput, match="target='output'"), probe.record(pipe, explain=probe.Relevancy(steps=(0,))):
        pipelines.run(pipe, "sd1", guidance_scale=1.0)
    tiny = probe.Relevancy(steps=(0,), box=(0.5, 0.5, 0.501, 0.501))
    with pytest.raises(BadInput, match="holds no cell"), probe.record(pipe, explain=tiny):
        pipelines.run(pipe, "sd1")
