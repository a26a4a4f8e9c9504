"""Films, recorded: every picture of every film is there, and a word has a map in each frame of the latents."""

from typing import Any

import numpy as np
import pytest

import probe
from probe.errors import BadInput, NotRecorded
from probe.explain import METHODS
from probe.explain.daam import daam
from probe.readings import frame_maps, frames
from probe.trace import Trace
from tests import pipelines

PICTURES = {"cogvideox": (9, 3), "wan": (5, 2), "ltx": (9, 3), "hunyuan_video": (5, 2), "animate_diff": (4, 4)}


def record(family: str, **call: Any) -> tuple[Trace, np.ndarray]:
    pipe = pipelines.pipeline(family)
    with probe.record(pipe, words=["cat"]) as recording:
        output = pipelines.run(pipe, family, **call)
    return recording.trace, output


@pytest.mark.parametrize("family", PICTURES)
def test_a_word_has_a_map_in_each_frame_and_pictures_to_lie_over(family: str):
    trace, output = record(family)
    pictures, latents = PICTURES[family]
    assert (len(trace.shown(0)), len(output[0]), frames(trace)) == (pictures, pictures, latents)
    maps = frame_maps(trace, "cat")
    assert maps.sizes["frame"] == latents
    assert float(np.abs(maps - maps[0]).max()) > 0
    np.testing.assert_array_equal(probe.attention(trace, "cat", frame=1).values, maps[1])
    np.testing.assert_allclose(maps.mean("frame"), probe.attention(trace, "cat").values, atol=1e-6)
    assert len(probe.show.film(trace, "cat", side=64).pictures) == pictures


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_of_two_films_all_pictures_are_kept(kind: str):
    trace, output = record("wan", num_videos_per_prompt=2, output_type=kind)
    assert len(trace.pictures) == 10
    if kind == "np":
        shown = np.stack([np.asarray(picture) for picture in trace.shown(1)])
        np.testing.assert_array_equal(shown, (output[1] * 255).round().astype(np.uint8))
    assert not np.array_equal(np.asarray(trace.shown(0)[0]), np.asarray(trace.shown(1)[0]))


ASKED = {
    "leave_one_out": probe.LeaveOneOut(steps=(0,)),
    "shapley": probe.Shapley(steps=(0,), permutations=2),
    "concept_attention": probe.Concepts(words=("zebra",), steps=(0,)),
    "gradients": probe.Gradients(method="input_x_gradient", steps=(0,)),
}


@pytest.fixture(scope="module")
def asked() -> Trace:
    """A film with what all explainers of films read."""
    pipe = pipelines.pipeline("wan")
    with probe.record(pipe, explain=list(ASKED.values())) as recording:
        pipelines.run(pipe, "wan", guidance_scale=5.0)
    return recording.trace


@pytest.mark.parametrize("name", ["attention", "guidance", *ASKED])
def test_every_explainer_of_films_has_each_frame(asked: Trace, name: str):
    explain = next(method.explain for method in METHODS if method.name == name)
    word = None if name == "guidance" else "cat"
    each = [explain(asked, word, frame=frame) for frame in range(frames(asked))]
    assert len(each) == 2 and not np.allclose(each[0].values, each[1].values)
    np.testing.assert_array_equal(explain(asked, word, frame=-1).values, each[1].values)
    mean, whole = np.mean([heatmap.values for heatmap in each], axis=0), explain(asked, word)
    np.testing.assert_allclose(mean, whole.values, rtol=1e-4, atol=1e-6)
    assert each[1].provenance["frame"] == 1 and "frame" not in whole.provenance
    with pytest.raises(NotRecorded, match="no frame 2: its latents have 2, from 0"):
        explain(asked, word, frame=2)


def test_frames_share_what_they_find(asked: Trace):
    """The norm over all cells is that of the planes of all frames, and values sum to the shares of the words."""
    left, shared = (asked.node(name).isel(step=0, image=0) for name in ("leave_one_out", "shapley"))
    planes = ("frame", "y", "x")
    np.testing.assert_allclose((left["magnitude"] ** 2).sum(planes) ** 0.5, left["norm"], rtol=1e-4)
    np.testing.assert_allclose(shared["value"].sum(planes), shared["share"], rtol=1e-3, atol=1e-6)
    assert float(shared["share"].sum()) == pytest.approx(1.0, abs=1e-4)
    assert [path for path in asked.tree.groups if path.startswith("/concepts/")] == ["/concepts/2x8x12"]


def test_a_frame_of_daams_map_and_no_rollout_of_films():
    pipe = pipelines.pipeline("animate_diff")
    with probe.record(pipe, heads="all", relations=["image->text", "image->image:low-rank"]) as recording:
        pipelines.run(pipe, "animate_diff")
    each = [daam(recording.trace, "cat", frame=frame).values for frame in range(4)]
    assert float(np.abs(each[0] - each[1]).max()) > 0
    with pytest.raises(BadInput, match="rollout follows the cells of one image"):
        probe.rollout(recording.trace, "cat")
