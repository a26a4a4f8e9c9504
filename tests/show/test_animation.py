"""Moving pictures: which map over which picture, in which order, on one scale, and what is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import probe
from probe.errors import BadInput, NoSuchWord, NotRecorded, OutputError
from probe.heatmap import Heatmap
from probe.readings import UNITS, Choice, frame_maps, word_maps
from probe.show import animation, film, film_strip
from probe.show.animation import EDGE, HOLD, PACE, TOP
from probe.show.pictures import final_picture, latent_frames
from probe.show.render import blend
from probe.trace import Trace
from tests.factories import make_film, make_trace
from tests.show.hostile import WORDS
from tests.show.test_render import bars, clipped, drawn, without

SIDE = 240


def inside(picture: Image.Image) -> np.ndarray:
    """The part of an animation's picture that is not written."""
    return np.asarray(picture.crop((EDGE, TOP, EDGE + SIDE, TOP + SIDE)))


def over(ground: Image.Image, plane: xr.DataArray, scale: tuple[float, float]) -> np.ndarray:
    pixels = blend(ground.resize((SIDE, SIDE)), Heatmap(plane, "cat", "attention", UNITS), scale)
    return (255 * pixels).round().astype(np.uint8)


def grouped(trace: Trace, size: int) -> Trace:
    """The trace as a summary holds it that keeps the mean of each `size` steps."""
    kept = {node.path: node.to_dataset(inherit=False) for node in trace.tree.subtree}
    for path, node in kept.items():
        if path.startswith("/attention/"):
            starts = node["step"].values[::size]
            mean = node.coarsen(step=size).mean().assign_coords(step=starts)
            kept[path] = mean.assign_coords(steps=("step", [size] * len(starts)))
    return replace(trace, tree=xr.DataTree.from_dict(kept))


def test_each_step_is_its_map_over_what_was_predicted_on_one_scale():
    trace = make_trace(steps=3)
    made = animation(trace, "Balloon", side=SIDE)
    maps = word_maps(trace, ["balloon"]).isel(word=0)
    scale = float(maps.min()), float(maps.max())
    small = trace.node("thumbnails")["thumbnails"].sel(image=0)
    assert made.titles == ("step 0", "step 1", "step 2")
    assert made.durations == (PACE, PACE, HOLD)
    for rank, picture in enumerate(made.pictures):
        expected = over(Image.fromarray(small.values[rank]), maps[rank], scale)
        np.testing.assert_array_equal(inside(picture), expected)


def test_over_the_final_picture_where_it_is_asked_for_or_nothing_else_was_kept():
    trace = make_trace(steps=2)
    maps = word_maps(trace, ["cat"]).isel(word=0)
    expected = over(trace.pictures[0], maps[0], (float(maps.min()), float(maps.max())))
    np.testing.assert_array_equal(inside(animation(trace, "cat", side=SIDE, final=True).pictures[0]), expected)
    bare = animation(without(trace, "thumbnails"), "cat", side=SIDE)
    np.testing.assert_array_equal(inside(bare.pictures[0]), expected)


def test_a_summary_moves_by_groups_of_steps_and_says_so():
    trace = grouped(make_trace(steps=6), 2)
    made = animation(trace, "cat", side=SIDE)
    assert made.titles == ("steps 0–1, their mean", "steps 2–3, their mean", "steps 4–5, their mean")
    small = trace.node("thumbnails")["thumbnails"].sel(step=2, image=0)
    maps = word_maps(trace, ["cat"]).isel(word=0)
    expected = over(Image.fromarray(small.values), maps[1], (float(maps.min()), float(maps.max())))
    np.testing.assert_array_equal(inside(made.pictures[1]), expected)
    strip = probe.show.strip(trace, "cat")
    assert [ax.get_title() for ax in strip.axes[:3]] == ["steps 0–1", "steps 2–3", "steps 4–5"]


def test_groups_of_steps_that_lie_apart_are_not_called_a_range():
    trace = grouped(make_trace(steps=8), 2)
    node = trace.node("attention/16x16")
    trace.tree["attention"] = xr.DataTree.from_dict({"16x16": node.assign_coords(step=[0, 3, 4, 6])})
    assert animation(trace, "cat", side=64, final=True).titles[0] == "2 steps from 0, their mean"


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_it_is_read_back_as_it_was_written(ending: str, tmp_path: Path):
    made = animation(make_trace(steps=3), "balloon", side=SIDE)
    path = made.save(tmp_path / "new" / f"balloon.{ending}")
    with Image.open(path) as read:
        assert (read.n_frames, read.info["loop"]) == (3, 0)
        for i, picture in enumerate(made.pictures):
            read.seek(i)
            shown = np.asarray(read.convert("RGB"), dtype=float)
            error = np.abs(shown - np.asarray(picture, dtype=float))
            assert read.info["duration"] == made.durations[i]
            assert error.mean() < 4 if ending == "gif" else error.max() == 0  # 256 colours for all three pictures
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_is_not_replaced_unless_that_is_allowed(tmp_path: Path):
    made = animation(make_trace(steps=1), "cat", side=64)
    path = made.save(tmp_path / "a.gif")
    with pytest.raises(OutputError, match="exists already"):
        made.save(path)
    assert made.save(path, exist_ok=True) == path
    with pytest.raises(BadInput, match=r"a\.mp4: an animation is saved as \.gif, \.png, \.webp"):
        made.save(tmp_path / "a.mp4")


def test_a_notebook_shows_it_moving():
    made = animation(make_trace(steps=2), "cat", side=64)
    assert made._repr_png_().count(b"fdAT") >= 1
    assert repr(made) == "Animation(2 pictures, 256 x 149, 1.7 s)"


def test_a_film_is_each_of_its_pictures_under_the_map_of_its_latent_frame():
    trace = make_film(frames=3, r=4)
    made = film(trace, "cat", side=SIDE)
    maps = frame_maps(trace, "cat")
    scale = float(maps.min()), float(maps.max())
    assert made.titles[:2] == ("frame 0, latent 0", "frame 1, latent 1")
    for i, latent in enumerate([0, 1, 1, 1, 1, 2, 2, 2, 2]):
        np.testing.assert_array_equal(inside(made.pictures[i]), over(trace.pictures[i], maps[latent], scale))


def test_the_second_film_of_a_batch_has_its_own_pictures():
    trace = make_film(frames=2, r=1, images=2)
    made = film(trace, "cat", side=SIDE, choice=Choice(image=1))
    maps = frame_maps(trace, "cat", Choice(image=1))
    assert made.titles == ("frame 0", "frame 1")
    expected = over(trace.pictures[3], maps[1], (float(maps.min()), float(maps.max())))
    np.testing.assert_array_equal(inside(made.pictures[1]), expected)


def test_a_film_strip_stands_maps_under_the_pictures_of_their_frames():
    trace = make_film(frames=3, r=4)
    figure = film_strip(trace, "balloon")
    maps = frame_maps(trace, "balloon")
    above, below = figure.axes[:3], figure.axes[3:6]
    assert [ax.get_title() for ax in above] == ["frame 0", "frames 1–4", "frames 5–8"]
    assert (above[0].get_ylabel(), below[0].get_ylabel()) == ("film", "balloon")
    np.testing.assert_array_equal(drawn(above[1]), np.asarray(trace.pictures[3]))
    scale = float(maps.min()), float(maps.max())
    expected = blend(trace.pictures[3], Heatmap(maps[1], "balloon", "attention", UNITS), scale)
    np.testing.assert_allclose(drawn(below[1]), expected)
    assert bars(figure) == [pytest.approx(scale)]
    assert clipped(figure) == []
    assert [ax.get_title() for ax in film_strip(trace, "cat", frames=2).axes[:2]] == ["frame 0", "frames 5–8"]


def test_a_frame_is_shown_over_a_picture_that_was_decoded_from_it():
    trace = make_film(frames=3, r=4)
    assert final_picture(trace, frame=-1) == final_picture(trace, frame=2) == trace.pictures[7]
    shown = drawn(probe.show.overlays(trace, choice=Choice(frame=1)).axes[0])
    np.testing.assert_array_equal(shown, np.asarray(trace.pictures[3]))


@pytest.mark.parametrize(
    ("pictures", "count", "expected"),
    [
        (9, 3, [0, 1, 1, 1, 1, 2, 2, 2, 2]),  # causal, 4 pictures a frame
        (9, 2, [0] + 8 * [1]),  # causal, 8
        (4, 4, [0, 1, 2, 3]),
        (8, 3, [0, 0, 0, 1, 1, 1, 2, 2]),  # neither: evenly
        (88, 22, [i // 4 for i in range(88)]),  # 4 a frame from the first one on
        (1, 1, [0]),
    ],
)
def test_pictures_of_latent_frames(pictures: int, count: int, expected: list[int]):
    assert latent_frames(pictures, count) == expected


def test_hostile_words_are_written(tmp_path: Path):
    trace = make_trace(words=WORDS, steps=2, size=32)
    for rank, word in enumerate(WORDS[::3]):
        assert animation(trace, word, side=64).save(tmp_path / f"{rank}.gif").stat().st_size > 0


def test_what_is_missing_is_named():
    trace, moving = make_trace(), make_film()
    with pytest.raises(NoSuchWord, match="'dragon' was not recorded"):
        animation(trace, "dragon")
    with pytest.raises(NotRecorded, match="it is of pictures, so leave `frame` out"):
        film(trace, "cat")
    bare = replace(without(trace, "thumbnails"), pictures=())
    with pytest.raises(NotRecorded, match="neither pictures nor thumbnails; let the pipeline return PIL images"):
        animation(bare, "cat")
    with pytest.raises(
        NotRecorded, match="0 pictures of a video with 3 latent frames; let the pipeline return the video"
    ):
        film_strip(replace(moving, pictures=()), "cat")
