"""Many small maps or pictures in one image, as a data URI that a page can carry."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Sprite:
    """Tiles of one size in rows of `columns`, first to last. A tile's values run from `low` to `high`
    as 0..255; `mean` is their mean before rounding."""

    src: str
    columns: int
    width: int
    height: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()


def pack_maps(maps: np.ndarray) -> Sprite:
    """Maps [tile, y, x] as one grey PNG, eight bits a value, with each tile's own minimum and maximum beside it.

    The error of a value is at most 1/510 of its tile's range.
    """
    low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
    span = np.where(high > low, high - low, 1.0)[:, None, None]
    levels = np.rint(255 * (maps - low[:, None, None]) / span).astype(np.uint8)
    sheet, columns = _tile(levels)
    src = data_uri(Image.fromarray(sheet), "PNG", optimize=True)
    numbers = (_numbers(each) for each in (low, high, maps.mean(axis=(1, 2))))
    return Sprite(src, columns, maps.shape[2], maps.shape[1], *numbers)


def pack_pictures(pictures: Sequence[Image.Image], *, side: int = 128) -> Sprite:
    """Pictures of one size as one JPEG, no side longer than `side` pixels.

    Sides are multiples of 8, the block of a JPEG, so that no colour runs from one tile into the next.
    """
    scale = min(1.0, side / max(pictures[0].size))
    width, height = (max(1, round(length * scale / 8)) * 8 for length in pictures[0].size)
    small = np.stack([np.asarray(picture.convert("RGB").resize((width, height))) for picture in pictures])
    sheet, columns = _tile(small)
    src = data_uri(Image.fromarray(sheet), "JPEG", quality=85, subsampling=0, optimize=True)
    return Sprite(src, columns, width, height)


def pack_picture(picture: Image.Image, *, limit: int = 800_000) -> str:
    """A picture as a data URI: PNG, or WebP at high quality when that would be more than `limit` bytes."""
    exact = data_uri(picture, "PNG", optimize=True)
    return exact if len(exact) <= limit else data_uri(picture, "WEBP", quality=92)


def data_uri(picture: Image.Image, kind: str, **settings: Any) -> str:
    """A picture, encoded and written out as a `data:` address."""
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _tile(tiles: np.ndarray) -> tuple[np.ndarray, int]:
    """Tiles [tile, y, x, ...] side by side in a nearly square sheet, and how many stand in a row."""
    count, height, width, *rest = tiles.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, *rest), tiles.dtype)
    sheet[:count] = tiles
    grid = sheet.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)  # [row, y, column, x, ...]
    return grid.reshape(rows * height, columns * width, *rest), columns


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
