"""What a judge sees in a picture: presence, attributes and fusion of each subject, from the outside.

A judge is one of two things. An object whose `read(picture)` gives what it saw, as Menagerie's does: see `Seen`. Or a
function of a picture and words that gives, for each word it can tell, whether or how surely (0..1) it is there, as a
detector or CLIP would; of attributes and fusion nothing is known then. Ahead of the picture it expects what it says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Protocol

import numpy as np
from PIL import Image

from probe.errors import BadInput
from probe.nurse.diagnosis_signals import Cast, plain

SURE = 0.5  # from which probability on a word is there

Judge = Any  # an object with `read(picture) -> Seen`, or a `Tell`
Tell = Callable[[Image.Image, Sequence[str]], Mapping[str, float]]


class Seen(Protocol):
    """What a judge saw in one picture."""

    def knows(self, word: str) -> bool:
        """Whether it can tell of this word at all."""
        ...

    def mask(self, word: str) -> np.ndarray:
        """[y, x] bool: the pixels that a word is about, be it a noun or an attribute."""
        ...

    def fused(self, word: str, other: str) -> bool | None:
        """Whether the things of two words are one; None where not both are there."""
        ...

    def likely(self, word: str) -> float | None:
        """How surely a thing is there, 0..1, in a picture that is not finished; None where it cannot tell.

        May be left out by a judge that is never asked to look ahead.
        """
        ...


@dataclass(frozen=True)
class Sight:
    """What was seen of one subject; None where the judge cannot tell. `leaked`, `fused`: from, with which subject."""

    present: bool | None = None
    right: bool | None = None
    leaked: str | None = None
    fused: str | None = None


def look(judge: Judge, picture: Image.Image, cast: Cast) -> dict[str, Sight]:
    """What a judge sees of every subject. Raises BadInput for what is no judge."""
    read = getattr(judge, "read", None)
    if callable(read):
        seen: Any = read(picture)
        return {subject: _sight(seen, subject, cast) for subject in cast.subjects}
    sure = _told(judge, picture, cast)
    return {s: Sight() if sure.get(s) is None else Sight(bool(sure[s] >= SURE)) for s in cast.subjects}


def expect(judge: Judge, picture: Image.Image, cast: Cast) -> dict[str, float]:
    """How surely, 0..1, a judge expects every subject from a picture that is not finished; NaN where it cannot tell.

    Raises BadInput for what is no judge.
    """
    read = getattr(judge, "read", None)
    if not callable(read):
        sure = _told(judge, picture, cast)
        return {s: nan if sure.get(s) is None else float(sure[s]) for s in cast.subjects}
    likely: Any = getattr(read(picture), "likely", lambda word: None)
    found = {s: None if _further(s) else likely(plain(s)) for s in cast.subjects}
    return {s: nan if chance is None else float(chance) for s, chance in found.items()}


def checked(judge: Any) -> Judge:
    """The judge. Raises BadInput for what is none."""
    if not callable(judge) and not callable(getattr(judge, "read", None)):
        raise BadInput(
            f"a {type(judge).__name__} is not a judge; give an object with read(picture), such as Menagerie's, "
            "or a function (picture, words) -> {word: probability}"
        )
    return judge


def _told(judge: Any, picture: Image.Image, cast: Cast) -> dict[str, Any]:
    """What a function says of the subjects that can be told apart. Raises BadInput for what cannot be called."""
    told: Any = checked(judge)(picture, [plain(subject) for subject in cast.subjects if not _further(subject)])
    return {s: told.get(plain(s)) for s in cast.subjects if not _further(s)}


def _further(label: str) -> bool:
    """Whether it is a second or later of its kind, which cannot be told from the first: nothing is said of it."""
    return "#" in label


def _sight(seen: Seen, subject: str, cast: Cast) -> Sight:
    if not seen.knows(plain(subject)) or _further(subject):
        return Sight()
    body = seen.mask(plain(subject))
    if not body.any():
        return Sight(present=False)
    others = [other for other in cast.subjects if plain(other) != plain(subject)]
    mark = cast.attributes.get(subject)
    right = _has(seen, body, mark)
    leaked = (other for other in others if right is not True and _has(seen, body, cast.attributes.get(other)))
    joined = (other for other in others if seen.fused(plain(subject), plain(other)))
    return Sight(True, right, next(leaked, None), next(joined, None))


def _has(seen: Seen, body: np.ndarray, mark: str | None) -> bool | None:
    """Whether some of a thing's pixels have an attribute; None without one that the judge knows."""
    if mark is None or not seen.knows(plain(mark)):
        return None
    return bool((body & seen.mask(plain(mark))).any())
