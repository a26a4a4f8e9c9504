"""What Menagerie is asked for where it is measured: prompts of one subject and of pairs that were seen together."""

import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

from probe.generator.world import held_out, rare
from probe.generator.world import vocabulary as v

T = TypeVar("T")
SHEET = (  # what the sheet of samples shows
    "a cat and a dog",
    "a lion with a purple crown on the grass",
    "a red car next to a blue bowl",
    "a frog and a yellow balloon",
    "an elephant in the snow",
    "a doctor and a rabbit on the beach",
    "an astronaut at night",
    "a green clock in a room",
)


def article(words: str) -> str:
    """The words with "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def cycle(items: Sequence[T], count: int) -> list[T]:
    """The first `count` of the items, over and over."""
    return list(itertools.islice(itertools.cycle(items), count))


def named(kind: str, rng: random.Random) -> str:
    """An animal by its name, an object with a colour, as in the benchmark of Attend-and-Excite."""
    return article(kind if kind in v.ANIMALS else f"{rng.choice(list(v.COLOURS))} {kind}")


def pair_prompts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The two names, joined by "and"."""
    rng = random.Random("colours of pairs")
    return [f"{named(a, rng)} and {named(b, rng)}" for a, b in pairs]


def seen_pairs(count: int) -> list[tuple[str, str]]:
    """Pairs of subjects that are together in the training data as often as any."""
    all_pairs = itertools.combinations(v.SUBJECTS, 2)
    usual = [pair for pair in all_pairs if frozenset(pair) not in held_out() | rare()]
    return random.Random("seen pairs").sample(usual, min(count, len(usual)))
