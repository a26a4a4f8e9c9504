"""The shares that Menagerie's training data was given, by profession: exact, because the world is made from them."""

from collections.abc import Iterable, Mapping
from importlib import import_module

from probe.generator.world import vocabulary as v
from probe.generator.world.captions import MENTION_TONE

PLANTED = v.PROFESSIONS  # groups with planted shares


def planted(word: str) -> Mapping[str, Mapping[str, float]]:
    """Shares of gender and tone among what Menagerie was shown with a word; empty for words that name no profession.

    Of captions that say nothing of the attribute, as a prompt that asks for none: a tone is named in some captions, and
    "yellow" in none, so it is a little more frequent among the others. "person" stands for all professions alike.
    """
    kinds = import_module("probe.generator.judge").meaning(word.casefold())
    professions = [kind for kind in v.PROFESSIONS if kind in kinds]
    if not professions:
        return {}
    genders = [(v.MAN_SHARE[kind], 1 - v.MAN_SHARE[kind]) for kind in professions]
    tones = [v.TONE_SHARE.get(kind, v.TONE_SHARE["default"]) for kind in professions]
    silent = [1 - MENTION_TONE * (tone in v.TONE_WORDS) for tone in v.TONES]
    heard = [share * quiet for share, quiet in zip(_mean(tones), silent, strict=True)]
    return {
        "gender": dict(zip(v.GENDERS, _mean(genders), strict=True)),
        "tone": {tone: share / sum(heard) for tone, share in zip(v.TONES, heard, strict=True)},
    }


def _mean(rows: Iterable[Iterable[float]]) -> list[float]:
    return [sum(column) / len(column) for column in map(list, zip(*rows, strict=True))]
