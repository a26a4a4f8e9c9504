"""Sprites: what comes out of one is what went in, as near as eight bits allow."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from probe.show.pack import Sprite, data_uri, pack_maps, pack_picture, pack_pictures


def opened(src: str) -> Image.Image:
    head, body = src.split(",", 1)
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return Image.open(io.BytesIO(base64.b64decode(body)))


def tiles(sprite: Sprite, count: int) -> list[np.ndarray]:
    sheet = np.asarray(opened(sprite.src))
    corners = [(i // sprite.columns * sprite.height, i % sprite.columns * sprite.width) for i in range(count)]
    return [sheet[y : y + sprite.height, x : x + sprite.width] for y, x in corners]


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_maps_come_back_within_half_a_level(count: int):
    rng = np.random.default_rng(count)
    maps = rng.random((count, 6, 9)).astype(np.float32) * 10.0 ** rng.integers(-6, 2, (count, 1, 1))
    sprite = pack_maps(maps)
    assert (sprite.height, sprite.width) == (6, 9)
    for i, tile in enumerate(tiles(sprite, count)):
        span = sprite.high[i] - sprite.low[i]
        np.testing.assert_allclose(sprite.low[i] + tile / 255 * span, maps[i], atol=span / 500)
        assert sprite.mean[i] == pytest.approx(maps[i].mean(), rel=1e-5)


def test_a_constant_map_comes_back_exactly():
    sprite = pack_maps(np.full((1, 4, 4), 0.25))
    assert (sprite.low, sprite.high) == ((0.25,), (0.25,))
    assert not tiles(sprite, 1)[0].any()


def test_no_colour_runs_from_one_picture_into_the_next():
    colours = ["red", "lime", "blue", "black", "white", "yellow", "magenta"]
    sprite = pack_pictures([Image.new("RGB", (64, 32), colour) for colour in colours])
    assert (sprite.width, sprite.height) == (64, 32)
    for tile, colour in zip(tiles(sprite, 7), colours, strict=True):
        exact = np.asarray(Image.new("RGB", (64, 32), colour), dtype=int)
        assert np.abs(tile - exact).max() <= 4


def test_large_pictures_are_made_small_and_keep_their_shape():
    sprite = pack_pictures([Image.new("RGB", (1024, 512))])
    assert (sprite.width, sprite.height) == (128, 64)


def test_a_picture_is_exact_unless_it_would_be_too_large():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    np.testing.assert_array_equal(np.asarray(opened(pack_picture(noise))), np.asarray(noise))
    smaller = pack_picture(noise, limit=5_000)
    assert smaller.startswith("data:image/webp;")
    assert len(smaller) < len(data_uri(noise, "PNG"))
