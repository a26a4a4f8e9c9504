"""Sprites: the drawings of the world, recoloured, scaled and cached.

The pictures are Noto emoji (images Apache-2.0; see NOTICE), cut once by `experiments/cut_sprites.py`.
"""

import json
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from probe.generator.world.vocabulary import COLOURS

ASSETS = Path(__file__).parents[1] / "assets"
SPECULAR = 0.6  # share of white in the brightest pixel of a recoloured sprite
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@cache
def _atlas() -> dict[str, Image.Image]:
    index = json.loads((ASSETS / "sprites.json").read_text())
    sheet = Image.open(ASSETS / "sprites.png").convert("RGBA")
    side, columns = index["side"], index["columns"]
    corners = [(i % columns * side, i // columns * side) for i in range(len(index["names"]))]
    return {n: sheet.crop((x, y, x + side, y + side)) for n, (x, y) in zip(index["names"], corners, strict=True)}


def recolour(sprite: Image.Image, colour: str) -> Image.Image:
    """Paint a sprite in one colour: shade = base * L / mean(L), and highlights blend to white, so the drawing stays."""
    pixels = np.asarray(sprite, dtype=np.float64)
    ink = pixels[..., 3] > 127
    L = pixels[..., :3] @ LUMA
    shade = L / max(L[ink].mean(), 1.0)
    gloss = np.clip((shade - 1) / max(shade[ink].max() - 1, 1e-6), 0, 1)[..., None] * SPECULAR
    painted = np.array(COLOURS[colour]) * np.minimum(shade, 1)[..., None]
    rgb = painted * (1 - gloss) + 255 * gloss
    return Image.fromarray(np.concatenate([rgb, pixels[..., 3:]], axis=-1).round().astype(np.uint8), "RGBA")


@lru_cache(maxsize=16_384)
def sprite(name: str, colour: str | None, side: int, flipped: bool) -> tuple[Image.Image, Image.Image, Image.Image]:
    """One drawing, ready to paste: its RGB picture, its soft alpha and its hard 0/255 mask, each side x side."""
    drawing = _atlas()[name]
    if colour is not None:
        drawing = recolour(drawing, colour)
    if flipped:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    drawing = drawing.resize((side, side), Image.Resampling.BOX if side < 48 else Image.Resampling.BILINEAR)
    alpha = drawing.getchannel("A")
    return drawing.convert("RGB"), alpha, alpha.point(lambda a: 255 if a > 127 else 0)
