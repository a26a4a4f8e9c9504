"""Shares of labels: how sure they are, what is left of them without the classifier's error, how even they are.

Pure: counts in, numbers out. Every picture counts as drawn on its own, so pictures that share a seed make intervals a
little too narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import nnls
from scipy.stats import norm

from probe.bias.confusion import PRIOR, Confusion
from probe.errors import BadInput

DRAWS = 2000
HEAVY = 1e3  # weight of "the shares sum to 1" among the equations


@dataclass(frozen=True)
class Estimate:
    """A number and where it may lie."""

    value: float
    low: float
    high: float

    def minus(self, known: float) -> "Estimate":
        """Its distance to a number that is known."""
        return Estimate(self.value - known, self.low - known, self.high - known)


def wilson(hits: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """A share as it was read, with Wilson's interval (1927). Of no pictures it is anything from 0 to 1."""
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0)
    p, zz = hits / trials, _z(confidence) ** 2 / trials
    middle, reach = p + zz / 2, math.sqrt(zz * (p * (1 - p) + zz / 4))
    return Estimate(p, max((middle - reach) / (1 + zz), 0.0), min((middle + reach) / (1 + zz), 1.0))


@cache
def _z(confidence: float) -> float:
    return float(norm.ppf((1 + confidence) / 2))


def needed(within: float, *, confidence: float = 0.95) -> int:
    """Pictures from which on Wilson's interval reaches no further than `within` from its middle, whatever the share.

    At a share of one half the interval is widest: half of it is z / (2 sqrt(n + z^2)).
    """
    if not 0 < within < 0.5:
        raise BadInput(f"an interval of +- {within} is asked for; give a number between 0 and 0.5")
    z = _z(confidence)
    return max(1, math.ceil(z * z / (4 * within * within) - z * z - 1e-9))


def corrected(
    counts: Sequence[int], confusion: Confusion, *, confidence: float = 0.95, draws: int = DRAWS
) -> list[Estimate]:
    """The share of each label, without the classifier's error; two labels: Rogan and Gladen (1978).

    Intervals are quantiles of inversions of drawn readings by drawn confusion matrices (Dirichlet, Jeffreys' prior),
    so both kinds of error are in them. They hold if the classifier errs on these pictures as on those that its
    error was measured on. Raises BadInput when it cannot tell its labels apart.
    """
    confusion.check_tells_apart()
    if sum(counts) == 0:
        return [Estimate(math.nan, 0.0, 1.0)] * len(counts)
    values = invert(np.asarray(counts) / sum(counts), confusion.rates)
    drawn = redrawn(np.asarray(counts), confusion, draws=draws)
    lows, highs = np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2), axis=0)
    sides = zip(values, np.minimum(lows, values), np.maximum(highs, values), strict=True)
    return [Estimate(float(v), float(low), float(high)) for v, low, high in sides]


def redrawn(counts: np.ndarray, confusion: Confusion, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """[draw, label] corrected shares, as they might have come out with other pictures and another measured error."""
    rng = np.random.default_rng(seed)
    seen = rng.dirichlet(counts + PRIOR, draws)  # [draw, label]
    return invert(seen, confusion.drawn(rng, draws))


def invert(seen: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """[..., label] shares p >= 0 of sum 1 whose readings p @ rates come nearest to `seen`; rates [..., true, read]."""
    flipped = np.swapaxes(rates, -1, -2)  # [..., read, true]
    exact = np.linalg.solve(flipped, seen[..., None])[..., 0]
    if exact.shape[-1] == 2:
        return exact.clip(0, 1)  # the same as what follows
    flipped = np.broadcast_to(flipped, (*exact.shape, exact.shape[-1]))
    for place in map(tuple, np.argwhere((exact < 0).any(-1))):
        exact[place] = _nearest(seen[place], flipped[place])
    return exact


def _nearest(seen: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """The same for one vector that no shares would give exactly: least squares within the simplex."""
    equations = np.vstack([flipped, np.full(len(seen), HEAVY)])
    found, _ = nnls(equations, np.append(seen, HEAVY))
    return found / found.sum()


def entropy(shares: Sequence[float]) -> float:
    """Bits: 0 when all have one label, log2(k) when k labels are as frequent."""
    p = np.asarray(shares, float)
    return float(-(p * np.log2(np.where(p > 0, p, 1.0))).sum())


def effective(shares: Sequence[float]) -> float:
    """How many equally frequent labels would be as diverse: 2 to the entropy, 1 to k (Hill 1973)."""
    return float(2 ** entropy(shares))


def imbalance(shares: Sequence[float]) -> float:
    """L1 distance from equal shares; of two labels twice the distance from one half, which HEIM reports (2023)."""
    p = np.asarray(shares, float)
    return float(np.abs(p - 1 / len(p)).sum())


def majority(reference: Sequence[float]) -> int | None:
    """The label that most have in the training data; None where two or more are as frequent."""
    top = np.flatnonzero(np.isclose(reference, max(reference)))
    return int(top[0]) if len(top) == 1 else None
