"""What is turned until shares are even: one word of a concept, or how far a prompt is steered."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from probe.bias.question import Arm
from probe.concepts.concept import Concept
from probe.errors import BadInput
from probe.study.question import PLAIN


@dataclass(frozen=True)
class Knob:
    """What is turned: `arm` of a value, from `first` to `last`; the value `plain` leaves the prompt as it is."""

    name: str
    arm: Callable[[float], Arm]
    first: float
    last: float
    plain: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.first) or not math.isfinite(self.last) or self.first == self.last:
            raise BadInput(
                f"{self.name} is turned from {self.first:g} to {self.last:g}; give another `last`, a finite number"
            )

    def method(self, value: float) -> str:
        """What tables call the arm of a value."""
        return PLAIN if value == self.plain else f"{self.name} {value:.10g}"


def strength(towards: str | Concept, *, last: float = 1.0) -> Knob:
    """How far the prompt is steered towards another template, or a concept: from 0 to 1, which is read in its place."""
    return Knob("strength", lambda value: (towards, value), 0.0, last, plain=0.0)


def coefficient(concept: Concept, word: str, *, last: float = 0.0) -> Knob:
    """The coefficient of a word, times 1 as it was found, down to 0 without it; `last` above 1 grows it.

    Raises NoSuchWord, listing the concept's words.
    """
    concept[word]
    return Knob(f"{word} x", partial(concept.scaled, word), 1.0, last)
