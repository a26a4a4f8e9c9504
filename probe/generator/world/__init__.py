"""Menagerie's world: scenes that are known to the pixel, their captions, and the dials of the training data."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from probe.generator.world import captions
from probe.generator.world import vocabulary as v
from probe.generator.world.captions import Caption, Mention
from probe.generator.world.places import SIDE, VARIANTS
from probe.generator.world.scene import Scene, Thing

__all__ = ["CONTROL", "SIDE", "Caption", "Dials", "Mention", "Scene", "Thing", "World", "held_out", "rare"]


@dataclass(frozen=True)
class Dials:
    """How the training data is made. The defaults imitate the noise of captions from the web."""

    extra: float = 0.12  # share of captions that name a thing that is not there
    missing: float = 0.08  # share of captions that leave a thing out
    ordered: float = 0.0  # share of captions that name things from left to right, the others in any order
    rare: float = 0.15  # how often a rare pair is kept when it is drawn
    hold_out: bool = True  # held-out pairs never occur together
    counts: tuple[float, float, float] = (0.45, 0.48, 0.07)  # scenes with one, two, three things
    worn: float = 0.22  # share of animals that wear something
    painted: float = 0.12  # share of animals that are recoloured
    people: float = 0.16  # share of things that are people
    man_share: dict[str, float] = field(default_factory=lambda: dict(v.MAN_SHARE))


CONTROL = Dials(extra=0.0, missing=0.0, rare=1.0, hold_out=False)


def _draw_pairs(name: str, count: int) -> frozenset[frozenset[str]]:
    pairs = list(itertools.combinations(v.SUBJECTS, 2))
    return frozenset(map(frozenset, random.Random(name).sample(pairs, count)))


def held_out() -> frozenset[frozenset[str]]:
    """The 16 pairs of subjects that never occur together in the training data."""
    return _draw_pairs("held out", 16)


def rare() -> frozenset[frozenset[str]]:
    """The pairs of subjects that seldom occur together (36 drawn, less the one that is held out)."""
    return _draw_pairs("rare", 36) - held_out()


class World:
    """Scenes by number: `World(seed).scene(i)` is the same scene for ever."""

    def __init__(self, seed: int = 0, dials: Dials | None = None):
        self.seed = seed
        self.dials = dials if dials is not None else Dials()
        self._held_out = held_out() if self.dials.hold_out else frozenset()
        self._rare = rare()

    def scene(self, index: int) -> Scene:
        """Scene number `index`."""
        rng = random.Random((self.seed << 40) + index)
        count = rng.choices((1, 2, 3), self.dials.counts)[0]
        return Scene(rng.choice(v.PLACES), rng.randrange(VARIANTS), self._things(rng, count), index)

    def caption(self, scene: Scene, draw: int = 0) -> Caption:
        """Caption number `draw` of a scene, with the noise that the dials ask for."""
        rng = self._pen(scene, draw)
        u = rng.random()
        extra = rng.choice(self._absent(scene)) if u < self.dials.extra else None
        missing = self.dials.extra <= u < self.dials.extra + self.dials.missing
        # At 0 nothing is drawn, so that the other words of a caption do not depend on there being this dial.
        ordered = self.dials.ordered > 0 and rng.random() < self.dials.ordered
        return captions.write(scene, rng, extra, omit=missing, ordered=ordered)

    def caption_of(self, scene: Scene, i: int, draw: int = 0) -> Caption:
        """Caption number `draw` of one thing of a scene, without noise: the words for a close-up of it."""
        return captions.write_one(scene, self._pen(scene, draw), i)

    def _pen(self, scene: Scene, draw: int) -> random.Random:
        return random.Random(((self.seed << 40) + scene.seed) * 1_000_003 + draw)

    def _absent(self, scene: Scene) -> list[str]:
        """Subjects that are not in the scene and whose name would not put a held-out pair into the caption."""
        kinds = {thing.kind for thing in scene.things}
        return [s for s in v.SUBJECTS if s not in kinds and not any(frozenset((s, k)) in self._held_out for k in kinds)]

    def scenes(self, count: int, start: int = 0) -> Iterator[Scene]:
        """`count` scenes from number `start` on."""
        return (self.scene(i) for i in range(start, start + count))

    def arrange(self, kinds: list[str], seed: int = 0, **traits: str) -> Scene:
        """A scene of chosen things; `traits` (colour, gender, tone) apply to all of them."""
        rng = random.Random(seed)
        things = [self._clothe(rng, kind, cell, traits) for kind, cell in _cells(rng, kinds)]
        return Scene(rng.choice(v.PLACES), rng.randrange(VARIANTS), tuple(things), seed)

    def _things(self, rng: random.Random, count: int) -> tuple[Thing, ...]:
        kinds = self._kinds(rng, count)
        things = [self._clothe(rng, kind, cell, {}) for kind, cell in _cells(rng, kinds)]
        for i, thing in enumerate(tuple(things)):
            if thing.kind in v.ANIMALS and rng.random() < self.dials.worn:
                things += self._accessory(rng, things, i)
        return tuple(things)

    def _accessory(self, rng: random.Random, things: list[Thing], i: int) -> list[Thing]:
        """What thing `i` wears, unless that would put a held-out pair together."""
        kinds = {thing.kind for thing in things}
        free = [a for a in v.ACCESSORIES if not any(frozenset((a, kind)) in self._held_out for kind in kinds)]
        return [_wear(rng, things[i], i, rng.choice(free))] if free else []

    def _kinds(self, rng: random.Random, count: int) -> list[str]:
        """Kinds that may stand together, by rejection of held-out and most rare pairs."""
        while True:
            people = [rng.random() < self.dials.people for _ in range(count)]
            kinds = [rng.choice(v.PROFESSIONS if person else v.SUBJECTS) for person in people]
            pairs = {frozenset(pair) for pair in itertools.combinations(kinds, 2)}
            scarce = bool(pairs & self._rare) and rng.random() > self.dials.rare
            if len(set(kinds)) == count and not pairs & self._held_out and not scarce:
                return kinds

    def _clothe(self, rng: random.Random, kind: str, cell: "_Cell", traits: dict[str, str]) -> Thing:
        """Give a thing its colour, gender and tone."""
        drawn: dict[str, str | None] = {"colour": None, "gender": None, "tone": None}
        if kind in v.PROFESSIONS:
            drawn["gender"] = "man" if rng.random() < self.dials.man_share[kind] else "woman"
            drawn["tone"] = rng.choices(v.TONES, v.TONE_SHARE.get(kind, v.TONE_SHARE["default"]))[0]
        elif kind in v.OBJECTS or rng.random() < self.dials.painted:
            drawn["colour"] = rng.choice(list(v.COLOURS))
        drawn.update(traits)
        flipped = rng.random() < FLIPPED
        return Thing(kind, cell.x, cell.y, cell.side, size=cell.size, flipped=flipped, **drawn)


@dataclass(frozen=True, slots=True)
class _Cell:
    x: int
    y: int
    side: int
    size: str | None


FLIPPED = 0.3  # share of things that face the other way
_SIDES = {1: (62, 92), 2: (46, 62), 3: (36, 44)}  # pixels, by the number of things
_SIZES = {"big": 1.2, "tiny": 0.7}


def _cells(rng: random.Random, kinds: list[str]) -> list[tuple[str, _Cell]]:
    """Side by side, left to right, each jittered inside its own column."""
    n = len(kinds)
    column = SIDE / n
    return [(kind, _cell(rng, n, column * (i + 0.5), column)) for i, kind in enumerate(kinds)]


def _cell(rng: random.Random, n: int, centre: float, column: float) -> _Cell:
    low, high = _SIDES[n]
    size = rng.choice(("big", "tiny")) if n < 3 and rng.random() < 0.15 else None
    side = int(rng.randint(low, high) * _SIZES.get(size or "", 1.0)) // 2 * 2
    slack = max(0, int(column - side) // 2) + 2
    x = round(centre - side / 2) + rng.randint(-slack, slack)
    middle = (SIDE - side) // 2 + (6 if n > 1 else 2)
    y = middle + rng.randint(-min(14, middle), min(14, SIDE - side - middle) if SIDE - side > middle else 0)
    return _Cell(min(max(x, 0), SIDE - side), min(max(y, 0), SIDE - side), side, size)


# Where an accessory sits on its wearer, as shares of the wearer's side: centre x, centre y, side.
_WORN = {"crown": (0.5, 0.06, 0.52), "glasses": (0.5, 0.44, 0.62), "bow": (0.78, 0.82, 0.44)}


def _wear(rng: random.Random, wearer: Thing, i: int, kind: str) -> Thing:
    cx, cy, share = _WORN[kind]
    side = max(14, int(wearer.side * share) // 2 * 2)
    x = round(wearer.x + cx * wearer.side - side / 2)
    y = round(wearer.y + cy * wearer.side - side / 2)
    colour = rng.choice(list(v.COLOURS))
    return Thing(kind, x, max(0, y), side, colour=colour, wearer=i)
