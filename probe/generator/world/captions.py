"""Captions: what a scene is called, word by word, and which pixels each word is about."""

import random
from dataclasses import dataclass

import numpy as np

from probe.generator.world import vocabulary as v
from probe.generator.world.scene import Scene, Thing

MENTION_COLOUR, MENTION_PLACE, MENTION_GENDER, MENTION_TONE = 0.88, 0.6, 0.35, 0.15
SYNONYM, HYPERNYM, COLOUR_SYNONYM, OPENING = 0.12, 0.08, 0.1, 0.25


@dataclass(frozen=True, slots=True)
class Mention:
    """One word of a caption: its characters, its role, and the things it is about (empty: the place, or nothing)."""

    start: int
    end: int
    role: str  # "kind", "colour", "gender", "tone", "size", "place" or "glue"
    things: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption and its table of words."""

    text: str
    mentions: tuple[Mention, ...]

    def mask(self, mention: Mention, scene: Scene) -> np.ndarray:
        """[y, x] bool: the pixels that a word is about; the whole background for a word of place."""
        wanted = [i + 1 for i in mention.things] if mention.role != "place" else [0]
        return np.isin(scene.labels, wanted)


class Writer:
    """Collects the words of one caption in order."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.words: list[tuple[str, str, tuple[int, ...]]] = []

    def glue(self, phrase: str) -> None:
        self.words += [(word, "glue", ()) for word in phrase.split()]

    def place(self, phrase: str) -> None:
        content = phrase.split()[-1]
        self.words += [(word, "place" if word == content else "glue", ()) for word in phrase.split()]

    def say(self, word: str, role: str, *things: int) -> None:
        self.words.append((word, role, things))

    def finish(self) -> Caption:
        text, mentions = "", []
        for i, (word, role, things) in enumerate(self.words):
            following = self.words[i + 1][0] if i + 1 < len(self.words) else ""
            written = "an" if word == "a" and following[:1] in "aeiou" else word
            start = len(text) + (1 if text else 0)
            text = f"{text} {written}" if text else written
            mentions.append(Mention(start, start + len(written), role, things))
        return Caption(text, tuple(mentions))


def _noun(thing: Thing, rng: random.Random) -> tuple[str, str]:
    """The word for a thing and its role; people may be called by their gender alone."""
    u = rng.random()
    if thing.gender and u < 0.12:
        return rng.choice(v.GENDER_NOUNS[thing.gender]), "gender"
    if u < 0.12 + HYPERNYM:
        return rng.choice(v.HYPERNYMS[thing.kind]), "kind"
    if u < 0.12 + HYPERNYM + SYNONYM:
        return rng.choice(v.SYNONYMS[thing.kind]), "kind"
    return thing.kind, "kind"


def _describe(writer: Writer, thing: Thing, i: int, crowned: bool = False) -> None:
    """Write "a big red car": article, size, person words, colour, noun."""
    rng = writer.rng
    writer.glue("a")
    if thing.size:
        writer.say(rng.choice(v.SIZE_WORDS[thing.size]), "size", i)
    if crowned:
        writer.say("royal", "kind", i)
    noun, role = _noun(thing, rng)
    if thing.gender and role == "kind" and rng.random() < MENTION_GENDER:
        writer.say(rng.choice(v.GENDER_ADJECTIVES[thing.gender]), "gender", i)
    if thing.colour and rng.random() < MENTION_COLOUR:
        synonym = rng.random() < COLOUR_SYNONYM
        writer.say(rng.choice(v.COLOUR_SYNONYMS[thing.colour]) if synonym else thing.colour, "colour", i)
    writer.say(noun, role, i)
    if thing.tone in v.TONE_WORDS and rng.random() < MENTION_TONE:
        writer.glue("with")
        writer.say(v.TONE_WORDS[thing.tone], "tone", i)
        writer.glue("skin")


def _join(writer: Writer, left: Thing, right: Thing) -> None:
    """The words between two things; "to the left of" only when it is so."""
    rng = writer.rng
    if rng.random() < 0.5:
        writer.glue("and")
    elif rng.random() < 0.4:
        side = "left" if left.x + left.side / 2 < right.x + right.side / 2 else "right"
        writer.glue(f"to the {side} of")
    else:
        writer.glue(rng.choice(v.CONNECTIVES))


def _order(scene: Scene, rng: random.Random) -> list[int]:
    free = [i for i, thing in enumerate(scene.things) if thing.wearer is None]
    rng.shuffle(free)
    return free


def _place(writer: Writer, scene: Scene) -> None:
    if v.PLACE_PHRASES[scene.place] and writer.rng.random() < MENTION_PLACE:
        writer.place(writer.rng.choice(v.PLACE_PHRASES[scene.place]))


def write(
    scene: Scene, rng: random.Random, extra: str | None = None, *, omit: bool = False, ordered: bool = False
) -> Caption:
    """One caption of a scene. `extra` names a thing that is not there; `omit` leaves one thing out (web noise).

    `ordered` names the things from left to right, as they stand in a scene; otherwise in any order.
    """
    writer = Writer(rng)
    order = _order(scene, rng)
    if omit and len(order) > 1:
        order.pop()
    if ordered:
        order.sort()  # things are numbered from left to right
    _open(writer)
    for k, i in enumerate(order):
        if k:
            _join(writer, scene.things[order[k - 1]], scene.things[i])
        _worn(writer, scene, i)
    if extra is not None:
        writer.glue("and a")
        writer.say(extra, "kind")
    _place(writer, scene)
    return writer.finish()


def write_one(scene: Scene, rng: random.Random, i: int) -> Caption:
    """A caption of `things[i]` and of what it wears, for a picture that shows no more than that."""
    writer = Writer(rng)
    _open(writer)
    _worn(writer, scene, i)
    _place(writer, scene)
    return writer.finish()


def _open(writer: Writer) -> None:
    if writer.rng.random() < OPENING:
        writer.glue(writer.rng.choice(v.OPENINGS))


def _worn(writer: Writer, scene: Scene, i: int) -> None:
    """A thing, with what it wears."""
    worn = [j for j, other in enumerate(scene.things) if other.wearer == i]
    crowned = bool(worn) and scene.things[worn[0]].kind == "crown" and writer.rng.random() < 0.15
    _describe(writer, scene.things[i], i, crowned)
    for j in [] if crowned else worn:
        writer.glue("with" if writer.rng.random() < 0.75 else "wearing")
        _describe(writer, scene.things[j], j)
