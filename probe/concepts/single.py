"""Which of a concept's words this very picture needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from probe.concepts.concept import DECOMPOSITION, TARGET, Concept
from probe.concepts.eyes import Eyes
from probe.concepts.own import options, quiet
from probe.concepts.pseudo_token import encoders, filled, gap
from probe.concepts.recipe import Recipe

KEEP, ALIKE, OWN = 0.93, 0.95, 0.92  # cosines: of pictures, of words that go together, of words that are the concept


@dataclass(frozen=True, eq=False)
class Single:
    """The words that one picture needs: `concept` holds them alone, `picture` is drawn from them, `likeness` is its
    cosine with `target`, which all words draw at the same seed. `removed`: the others, in the order in which they went.

    Words that go singly without harm may be missed together, so the result depends on the order and the threshold.
    """

    concept: Concept
    target: Image.Image
    picture: Image.Image
    likeness: float
    removed: tuple[str, ...]
    seed: int
    drawn: int  # pictures that it took

    @property
    def kept(self) -> Concept:
        """The concept that is left as it can be saved: with both pictures, and what is told of how it came about."""
        pictures = {TARGET: (self.target,), DECOMPOSITION: (self.picture,)}
        told = {"seed": self.seed, "removed": list(self.removed), "likeness": self.likeness}
        return replace(self.concept, pictures=pictures, provenance={**self.concept.provenance, **told})


def prune(pipe: Any, concept: Concept, eyes: Eyes, *, seed: int = 0, keep: float = KEEP, recipe: Recipe) -> Single:
    """Take words out, from the smallest coefficient up, as long as the picture stays alike; sweep until none goes.

    A word goes with all words whose CLIP text cosine with it is above 0.95; words above 0.92 with the concept itself go
    first. A batch draws the next removals each on top of the one before, and counts up to the first that fails: the
    same words go as one by one. `recipe` says how pictures are drawn.
    """
    hand = _Hand(pipe, concept, recipe, seed)
    target = hand.draw([set(concept.words)])[0]
    aim = eyes.pictures([target])[0]
    features = dict(zip(concept.words, eyes.texts(concept.words), strict=True))
    own = eyes.texts([concept.prompt])[0]
    held = {word for word in concept.words if features[word] @ own <= OWN} or set(concept.words)
    removed = [word for word in concept.words if word not in held]
    together = {word: {w for w in concept.words if w == word or features[w] @ features[word] > ALIKE} for word in held}
    while len(held) > 1:
        gone = _sweep(hand, eyes, held, together, aim=aim, keep=keep)
        if not gone:
            break
        removed += gone
        held -= set(gone)
    picture = hand.draw([held])[0]
    likeness = float(eyes.pictures([picture])[0] @ aim)
    return Single(_only(concept, held), target, picture, likeness, tuple(removed), seed, hand.drawn)


def _sweep(
    hand: "_Hand", eyes: Eyes, held: set[str], together: dict[str, set[str]], *, aim: np.ndarray, keep: float
) -> list[str]:
    """The words that go in one sweep, smallest coefficient first."""
    waiting = sorted(held, key=lambda word: abs(hand.concept[word]))
    left, gone = set(held), []
    while waiting:
        sets: list[set[str]] = []
        for word in waiting[: hand.recipe.batch]:
            rest = (sets[-1] if sets else left) - together[word]
            sets.append(rest or {max(left, key=lambda w: abs(hand.concept[w]))})
        alike = eyes.pictures(hand.draw(sets)) @ aim > keep
        passed = len(sets) if alike.all() else int(alike.argmin())
        if passed:
            gone += [word for word in sorted(left, key=lambda w: abs(hand.concept[w])) if word not in sets[passed - 1]]
            left = sets[passed - 1]
        waiting = [word for word in waiting[passed + (passed < len(sets)) :] if word in left]
    return gone


class _Hand:
    """Draws several subsets of a concept's words in one call, at one seed."""

    def __init__(self, pipe: Any, concept: Concept, recipe: Recipe, seed: int):
        self.pipe, self.concept, self.recipe, self.seed, self.drawn = pipe, concept, recipe, seed, 0

    def draw(self, sets: Sequence[set[str]]) -> list[Image.Image]:
        heard = encoders(self.pipe)
        hole = gap(self.concept.prompt, self.concept.template, heard)
        each = [_only(self.concept, words).embed(self.pipe) for words in sets]
        vectors = {encoder.name: torch.cat([vector[encoder.name] for vector in each]) for encoder in heard}
        noise = [torch.Generator("cpu").manual_seed(self.seed) for _ in sets]
        self.drawn += len(sets)
        with filled(hole, heard, vectors), quiet(self.pipe):
            return self.pipe([hole.text] * len(sets), generator=noise, **options(self.recipe)).images


def _only(concept: Concept, words: set[str]) -> Concept:
    kept = [(word, value) for word, value in zip(concept.words, concept.coefficients, strict=True) if word in words]
    names, values = zip(*kept, strict=True)
    told = {**concept.provenance, "only": list(names)}
    return replace(
        concept, words=names, coefficients=values, losses=np.zeros(0, np.float32), pictures={}, provenance=told
    )
