"""Films, recorded: every picture of every film is there, and a word has a map in each frame of the latents."""

from typing import Any

import numpy as np
import pytest

import probe
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
