"""How far a map may be believed: scores of a map against a known mask, and against what happens without the word.

A score against a mask says whether the map lies where the subject is, not why the model put it there; scores of
perturbation say what removing a word changes, and removing one leaves the others to take its place.
References: pointing game, Zhang et al., "Top-down Neural Attention" (2018); deletion and insertion, Petsiuk et al.,
"RISE" (2018); interval, Efron's percentile bootstrap, over pictures because words of one picture are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from probe.errors import BadInput
from probe.heatmap import Heatmap

LEVELS = np.linspace(0.0, 1.0, 51)  # thresholds, as shares of a map's own range
DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """A mean over `count` values, and where it lies in 95 of 100 resamplings of the pictures."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def overlaps(heatmap: Heatmap, mask: np.ndarray) -> np.ndarray:
    """[level] intersection over union of the mask [y, x] with the map at each of LEVELS."""
    field, inside = _aligned(heatmap, mask)
    found = field >= LEVELS[:, None]  # [level, cell]
    return (found & inside).sum(1) / (found | inside).sum(1)


def best_level(curves: np.ndarray) -> int:
    """The rank of the level at which curves [row, level] have the largest mean; the lowest of several."""
    return int(np.argmax(np.mean(curves, axis=0)))


def held_out(curves: np.ndarray, pictures: Sequence[int]) -> np.ndarray:
    """[row] overlap at one fixed level for all, which for even pictures is the best of the odd ones, and the reverse.

    Raises BadInput where one half is empty.
    """
    odd = np.asarray(pictures) % 2 == 1
    if odd.all() or not odd.any():
        raise BadInput("a threshold is chosen on one half of the pictures and used on the other: give both halves")
    chosen = np.where(odd, best_level(curves[~odd]), best_level(curves[odd]))
    return np.take_along_axis(curves, chosen[:, None], axis=1)[:, 0]


def precision(heatmap: Heatmap, mask: np.ndarray) -> float:
    """Average precision of the cells of the mask, ranked by the map; the mask's share of the picture is chance."""
    field, inside = _aligned(heatmap, mask)
    return float(average_precision_score(inside, field))


def points(heatmap: Heatmap, mask: np.ndarray) -> bool:
    """Whether the largest value lies on the mask."""
    field, inside = _aligned(heatmap, mask)
    return bool(inside[field.argmax()])


def agreement(heatmap: Heatmap, other: Heatmap) -> float:
    """Spearman's rank correlation of two maps over the cells of the second, -1..1; 0 where one is constant."""
    theirs = other.values.values
    return rank_correlation(heatmap.resize(*theirs.shape).values.values, theirs)


def rank_correlation(values: ArrayLike, others: ArrayLike) -> float:
    """Spearman's, over all entries; 0 where one side is constant."""
    if np.ptp(values) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(values), rankdata(others))[0, 1])


def area(curve: Sequence[float]) -> float:
    """Area under a curve at equal steps from nothing removed to all removed, over 0..1. Raises BadInput for a point."""
    if len(curve) < 2:
        raise BadInput(f"a curve has two points or more, got {len(curve)}")
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def interval(values: Sequence[float], pictures: Sequence[int], *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The mean of values, and its 95 % interval by resampling whole pictures. Raises BadInput without values."""
    if len(values) == 0:
        raise BadInput("there are no values to take the mean of")
    _, group = np.unique(np.asarray(pictures), return_inverse=True)
    sums, counts = np.bincount(group, np.asarray(values, float)), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (draws, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(np.mean(values)), float(low), float(high), len(values))


def _aligned(heatmap: Heatmap, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map on the mask's grid and on its own range, and the mask, each [cell]."""
    if not mask.any():
        raise BadInput("the mask is empty: there is nothing that a map could find; leave this word out")
    field = heatmap.resize(*mask.shape).normalised().values.values
    return field.ravel(), np.asarray(mask, bool).ravel()
