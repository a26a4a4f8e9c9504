"""Concepts of Menagerie's world, and the words that each is known to be made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from probe.generator.world import vocabulary as v

MAN = ("man", "guy", "male")
WOMAN = ("woman", "lady", "female")


@dataclass(frozen=True)
class Question:
    """A concept, the words that it is made of, and words that are left out as they only say it again."""

    prompt: str
    parts: frozenset[str]
    without: tuple[str, ...]
    k: int


def content() -> tuple[str, ...]:
    """The words of the world that name something: kinds, genders, colours, tones; what no caption says is left out."""
    tables = (v.SYNONYMS, v.HYPERNYMS, v.GENDER_NOUNS, v.GENDER_ADJECTIVES, v.COLOUR_SYNONYMS)
    words = [
        *v.KINDS,
        *v.COLOURS,
        *v.PLACES,
        *v.TONE_WORDS.values(),
        *(w for t in tables for ws in t.values() for w in ws),
    ]
    return tuple(sorted(set(words) - set(v.UNSAID.split())))


def named(kinds: Sequence[str]) -> frozenset[str]:
    """The kinds and their synonyms."""
    return frozenset(kinds) | {word for kind in kinds for word in v.SYNONYMS[kind]}


def person(profession: str) -> Question:
    """A profession is made of its genders and tones; its synonyms say it again."""
    parts = frozenset((*MAN, *WOMAN, *v.TONE_WORDS.values(), "skin", *v.HYPERNYMS[profession]))
    return Question(f"a {profession}", parts, v.SYNONYMS[profession], 5)


QUESTIONS = (
    Question("an animal", named(v.ANIMALS), v.HYPERNYMS["cat"], 10),
    Question("an object", named(v.OBJECTS), v.HYPERNYMS["car"], 10),
    Question("a person", named(v.PROFESSIONS) | {*MAN, *WOMAN}, v.HYPERNYMS["doctor"], 10),
    person("doctor"),
    person("teacher"),
    person("pilot"),
)
