"""Two settings or two groups at equal seeds: does one label become more or less frequent?

Pure. Pairs share prompt template and seed, so what differs is the setting. A test says whether a difference is more
than the luck of these seeds, never why it is there; of many tests some look surprising, which `holm` accounts for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from probe.bias.shares import Estimate, wilson
from probe.errors import BadInput

DRAWS = 4000


@dataclass(frozen=True)
class Paired:
    """How a label's share differs, second minus first. `gained`, `lost`: pairs in which only one has the label."""

    difference: Estimate
    gained: int
    lost: int
    pairs: int
    p: float


def compare(first: Sequence[bool], second: Sequence[bool], *, confidence: float = 0.95) -> Paired:
    """Whether the label is there, pair by pair: McNemar's exact test (1947) and Newcombe's interval (1998, method 10).

    Raises BadInput for sequences of different lengths, and for none.
    """
    if len(first) != len(second) or len(first) == 0:
        raise BadInput(f"{len(first)} and {len(second)} readings do not pair up; compare the same seeds, at least one")
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    p = 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost).pvalue)
    table = ((int((a & b).sum()), lost), (gained, int((~a & ~b).sum())))
    return Paired(newcombe(table, confidence=confidence), gained, lost, len(a), p)


def newcombe(table: tuple[tuple[int, int], tuple[int, int]], *, confidence: float = 0.95) -> Estimate:
    """The difference of paired shares, second minus first; `table` [first yes, no][second yes, no].

    Wilson's intervals of both shares, joined by the correlation of the pairs. Newcombe (1998), method 10.
    """
    (e, f), (g, h) = table
    n = e + f + g + h
    one, two = (wilson(hits, n, confidence=confidence) for hits in (e + f, e + g))
    phi = _correlation(e, f, g, h)
    below = _joined(two.value - two.low, one.high - one.value, phi)
    above = _joined(two.high - two.value, one.value - one.low, phi)
    d = two.value - one.value
    return Estimate(d, d - below, d + above)


def _correlation(e: int, f: int, g: int, h: int) -> float:
    """The pairs' phi, with Newcombe's correction for continuity where it is positive."""
    product = (e + f) * (g + h) * (e + g) * (f + h)
    if product == 0:
        return 0.0
    cross = e * h - f * g
    return (max(cross - (e + f + g + h) / 2, 0.0) if cross > 0 else cross) / math.sqrt(product)


def _joined(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))


def swap_test(first: Sequence[str], second: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """L1 distance of two mixes of labels at equal seeds, and its p-value when pairs are swapped at random.

    For attributes of more than two labels. Exact for the pairs that were drawn; p is never 0: (1 + hits) / (1 + draws).
    """
    if len(first) != len(second) or len(first) == 0:
        raise BadInput(f"{len(first)} and {len(second)} readings do not pair up; compare the same seeds, at least one")
    labels = sorted({*first, *second})
    one, two = (np.asarray([[label == known for known in labels] for label in each], float) for each in (first, second))
    step = two - one  # [pair, label]
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(step)))
    found = np.abs(step.mean(0)).sum()
    drawn = np.abs(signs @ step / len(step)).sum(1)
    return float(found), float((1 + (drawn >= found - 1e-12).sum()) / (1 + draws))


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of several tests, so that the chance of any false alarm stays what one promises (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, float)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()
