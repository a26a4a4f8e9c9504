"""A scene: what stands where, and the picture and masks that follow from it to the pixel."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from probe.generator.world.places import SIDE, background
from probe.generator.world.sprites import sprite


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawing in a scene. `wearer` is the index of the thing that wears this one, if any."""

    kind: str
    x: int
    y: int
    side: int
    colour: str | None = None
    gender: str | None = None
    tone: str | None = None
    size: str | None = None
    flipped: bool = False
    wearer: int | None = None

    @property
    def sprite_name(self) -> str:
        return f"{self.kind}/{self.gender}/{self.tone}" if self.gender else self.kind

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels, clipped to the picture."""
        return max(0, self.x), max(0, self.y), min(SIDE, self.x + self.side), min(SIDE, self.y + self.side)


@dataclass(frozen=True)
class Scene:
    """A picture that is known to the pixel: its place and its things, painted in order."""

    place: str
    variant: int
    things: tuple[Thing, ...]
    seed: int = field(default=0, compare=False)

    @cached_property
    def picture(self) -> Image.Image:
        """RGB, 128 x 128."""
        canvas = background(self.place, self.variant).copy()
        for thing in self.things:
            rgb, alpha, _ = sprite(thing.sprite_name, thing.colour, thing.side, thing.flipped)
            canvas.paste(rgb, (thing.x, thing.y), alpha)
        return canvas

    @cached_property
    def labels(self) -> np.ndarray:
        """[y, x] uint8: 0 is the place, i + 1 is `things[i]`; what is painted later hides what is below."""
        canvas = Image.new("L", (SIDE, SIDE))
        for i, thing in enumerate(self.things):
            _, _, mask = sprite(thing.sprite_name, thing.colour, thing.side, thing.flipped)
            canvas.paste(i + 1, (thing.x, thing.y), mask)
        return np.asarray(canvas)

    def mask(self, i: int) -> np.ndarray:
        """[y, x] bool: where `things[i]` is visible."""
        return self.labels == i + 1
