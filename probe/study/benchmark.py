"""The prompts of the Attend-and-Excite benchmark, by rule: 66 animal pairs, 144 animals with objects, 66 object pairs.

The colours were drawn once by the benchmark's authors, so they are a table. Of the two public lists, which differ in
one article only, this is the one that says "an elephant"; all else has "a", also "a orange apple" and "a glasses".
Reference: Chefer, Alaluf, Vinker, Wolf, Cohen-Or (2023), "Attend-and-Excite".
"""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

from probe.generator.world.vocabulary import ACCESSORIES, ANIMALS, OBJECTS

SUBSETS = ("animal-animal", "animal-object", "object-object")
PLAIN = tuple(thing for thing in OBJECTS if thing not in ACCESSORIES)

# One row an animal, one colour an object of PLAIN.
ANIMAL_OBJECT = """
blue black black yellow yellow purple gray green red
brown green orange blue purple gray pink gray black
black black green brown yellow black purple white yellow
orange red white red white purple gray blue pink
black orange white brown red pink white yellow gray
blue green pink pink white brown blue yellow green
pink green black green brown green green yellow orange
yellow orange blue green red green brown yellow orange
yellow red black purple orange green pink green black
gray orange blue pink yellow yellow white blue pink
orange yellow gray white yellow blue white gray orange
brown pink purple black red purple red blue pink
"""
# One row an object (the last has none), one pair of colours for each object that comes after it.
OBJECT_OBJECT = """
gray/yellow green/yellow green/brown yellow/purple black/pink black/green
    orange/purple red/yellow green/purple gray/green yellow/gray
green/black red/red green/yellow white/orange yellow/brown yellow/black yellow/gray green/black orange/pink white/gray
purple/blue pink/red blue/red pink/purple black/red red/black purple/blue gray/white gray/purple
white/white blue/gray gray/brown yellow/yellow gray/black orange/brown brown/black red/blue
white/gray purple/red green/purple purple/orange brown/white orange/blue pink/gray
blue/blue brown/pink green/pink blue/orange purple/white white/white
white/white yellow/pink yellow/orange white/black pink/gray
white/black orange/red black/white purple/pink
purple/black brown/green orange/purple
red/yellow green/red
blue/blue
"""


def attend_and_excite(subsets: tuple[str, ...] = SUBSETS) -> Iterator[dict[str, Any]]:
    """The 276 rows (or those of some subsets): subset, prompt, subjects, and the attribute of each or None."""
    makers = (_animals, _animals_and_objects, _objects)
    return (row for subset in subsets for row in makers[SUBSETS.index(subset)]())


def _animals() -> Iterator[dict[str, Any]]:
    for first, second in combinations(ANIMALS, 2):
        yield _row(SUBSETS[0], f"{_a(first)} and {_a(second)}", (first, second), (None, None))


def _animals_and_objects() -> Iterator[dict[str, Any]]:
    for animal, thing in product(ANIMALS, ACCESSORIES):
        yield _row(SUBSETS[1], f"{_a(animal)} with a {thing}", (animal, thing), (None, None))
    for (animal, thing), colour in zip(product(ANIMALS, PLAIN), ANIMAL_OBJECT.split(), strict=True):
        yield _row(SUBSETS[1], f"{_a(animal)} and a {colour} {thing}", (animal, thing), (None, colour))


def _objects() -> Iterator[dict[str, Any]]:
    for (first, second), pair in zip(combinations(OBJECTS, 2), OBJECT_OBJECT.split(), strict=True):
        one, other = pair.split("/")
        yield _row(SUBSETS[2], f"a {one} {first} and a {other} {second}", (first, second), (one, other))


def _a(noun: str) -> str:
    return f"{'an' if noun == 'elephant' else 'a'} {noun}"


def _row(subset: str, prompt: str, subjects: tuple[str, ...], attributes: tuple[str | None, ...]) -> dict[str, Any]:
    return {"subset": subset, "prompt": prompt, "subjects": subjects, "attributes": attributes}
