"""How good a decomposition is: does it last, does it draw the concept, do its words say different things?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
from PIL import Image

from probe.concepts.concept import CONCEPT, DECOMPOSITION, Concept
from probe.concepts.eyes import Eyes
from probe.errors import BadInput

MEASURES = "measures"  # in the provenance of a concept


@dataclass(frozen=True)
class Faithfulness:
    """Pictures of a concept beside those of its decomposition.

    `cosine`: of CLIP's features, mean over pairs of equal seeds, -1 to 1. `distance`: of its patches, 0 and more.
    `kid`: of both sets of pictures, around 0 for sets of one origin; noisy for few pictures, and below 0 by chance.
    None of them says that the words are right: a mixture of wrong words may draw the right pictures.
    """

    cosine: float
    distance: float
    kid: float
    pictures: int


def faithfulness(eyes: Eyes, concept: Sequence[Image.Image], decomposition: Sequence[Image.Image]) -> Faithfulness:
    """Compare pictures at equal seeds, in order. Raises BadInput for fewer than two, or sets of two sizes."""
    if len(concept) != len(decomposition) or len(concept) < 2:
        raise BadInput(
            f"got {len(concept)} pictures of the concept and {len(decomposition)} of its decomposition, expected as "
            "many of each, and two at least: draw both at the same seeds"
        )
    x, y = eyes.pictures(concept), eyes.pictures(decomposition)
    return Faithfulness(float((x * y).sum(1).mean()), distance(eyes, concept, decomposition), kid(x, y), len(concept))


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased squared MMD with k(a, b) = (a.b / d + 1)^3 (Binkowski et al., ICLR 2018); x, y [picture, d].

    On CLIP's features, not on Inception's: compare it only with itself.
    """
    d, m, n = x.shape[1], len(x), len(y)
    xx, yy, xy = ((a.astype(np.float64) @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
    return float(within - 2 * xy.mean())


def distance(eyes: Eyes, first: Sequence[Image.Image], second: Sequence[Image.Image]) -> float:
    """After LPIPS (Zhang et al., CVPR 2018), in CLIP: squared distance of unit patch features, mean over patches.

    Means over layers and pairs; without LPIPS' learned weights, so its numbers are its own.
    """
    pairs = zip(eyes.patches(first), eyes.patches(second), strict=True)
    return float(np.mean([((a - b) ** 2).sum(-1).mean() for a, b in pairs]))


def overlap(first: Concept, second: Concept, count: int = 10) -> float:
    """The share of the `count` largest words that two decompositions have in common."""
    return stability([first, second], count)


def stability(concepts: Sequence[Concept], count: int = 10) -> float:
    """The mean overlap over all pairs: decompositions of one concept at several seeds. Raises BadInput for one."""
    return agreement([concept.top(count) for concept in concepts], count)


def agreement(words: Sequence[Sequence[str]], count: int = 10) -> float:
    """The same of their `count` largest words alone. Raises BadInput for one decomposition."""
    if len(words) < 2:
        raise BadInput(f"stability is over seeds; got {len(words)} decomposition, expected two at least")
    return float(np.mean([len(set(a) & set(b)) / count for a, b in combinations(words, 2)]))


def diversity(eyes: Eyes, concept: Concept, count: int = 10) -> float:
    """1 - cosine of CLIP's text features, mean over all pairs of the `count` largest words; 0 for a single word.

    The published definition could not be found; this is ours.
    """
    features = eyes.texts(concept.top(count))
    pairs = [1 - float(a @ b) for a, b in combinations(features, 2)]
    return float(np.mean(pairs)) if pairs else 0.0


def measured(concept: Concept, eyes: Eyes) -> Concept:
    """The concept with its faithfulness and the diversity of its words; as it is where it has too few pictures."""
    drawn, mixed = (concept.pictures.get(name, ()) for name in (CONCEPT, DECOMPOSITION))
    if min(len(drawn), len(mixed)) < 2:
        return concept
    found = asdict(faithfulness(eyes, drawn, mixed)) | {"diversity": diversity(eyes, concept)}
    return replace(concept, provenance={**concept.provenance, MEASURES: found})
