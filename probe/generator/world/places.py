"""Places: the backgrounds of the world, drawn once per variant and cached."""

import random
from functools import cache

from PIL import Image, ImageDraw

SIDE = 128
VARIANTS = 8
PASTELS = (
    (246, 222, 222),
    (222, 236, 248),
    (226, 244, 224),
    (250, 242, 214),
    (236, 226, 248),
    (244, 232, 220),
    (220, 242, 242),
    (240, 240, 240),
)


@cache
def background(place: str, variant: int) -> Image.Image:
    """The empty place, 128 x 128; variants differ in tint, horizon and scatter."""
    rng = random.Random(f"{place}/{variant}")
    picture = Image.new("RGB", (SIDE, SIDE), PASTELS[variant % len(PASTELS)])
    if place != "plain":
        _DRAW[place](ImageDraw.Draw(picture), rng)
    return picture


def _bands(pen: ImageDraw.ImageDraw, horizon: int, above: tuple[int, ...], below: tuple[int, ...]) -> None:
    pen.rectangle((0, 0, SIDE, horizon), fill=above)
    pen.rectangle((0, horizon, SIDE, SIDE), fill=below)


def _grass(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon = rng.randint(52, 72)
    _bands(pen, horizon, (172, 216, 246), (136, 198, 98))
    for _ in range(40):
        x, y = rng.randint(0, SIDE), rng.randint(horizon + 6, SIDE)
        pen.line((x, y, x + rng.randint(-2, 2), y - 5), fill=(100, 170, 70), width=2)


def _beach(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon = rng.randint(40, 54)
    _bands(pen, horizon, (182, 226, 250), (244, 222, 164))
    pen.rectangle((0, horizon, SIDE, horizon + rng.randint(22, 30)), fill=(72, 168, 214))
    sun = rng.randint(14, 110)
    pen.ellipse((sun - 10, 6, sun + 10, 26), fill=(255, 228, 120))


def _snow(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon = rng.randint(56, 74)
    _bands(pen, horizon, (176, 194, 214), (250, 252, 255))
    for _ in range(36):
        x, y = rng.randint(0, SIDE), rng.randint(0, SIDE)
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255, 255, 255))


def _night(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon = rng.randint(80, 96)
    _bands(pen, horizon, (24, 30, 74), (44, 52, 72))
    for _ in range(22):
        x, y = rng.randint(0, SIDE), rng.randint(0, horizon - 8)
        pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(250, 246, 210))
    moon = rng.randint(16, 108)
    pen.ellipse((moon - 11, 8, moon + 11, 30), fill=(246, 240, 196))


def _room(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon = rng.randint(84, 96)
    _bands(pen, horizon, rng.choice(((232, 214, 190), (214, 222, 206), (226, 208, 214))), (170, 118, 76))
    for y in range(horizon + 10, SIDE, 11):
        pen.line((0, y, SIDE, y), fill=(148, 100, 62), width=2)
    x = rng.choice((8, 84))
    pen.rectangle((x, 12, x + 34, 48), fill=(176, 220, 244), outline=(250, 250, 250), width=4)
    pen.line((x + 17, 12, x + 17, 48), fill=(250, 250, 250), width=3)


_DRAW = {"grass": _grass, "beach": _beach, "snow": _snow, "night": _night, "room": _room}
