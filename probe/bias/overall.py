"""Does a setting amplify what the data hold? The mean over groups, with seeds drawn anew for all groups together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from probe.bias import shares as s
from probe.bias.tables import SETTING, Known, named

DRAWS = 1000


def overall_rows(found: pd.DataFrame, known: Known) -> Iterator[dict[str, Any]]:
    """One row a setting and attribute: mean amplification over groups, and its change from the first setting.

    Intervals: quantiles over draws of seeds (the same for all groups and settings, as these share them) and of the
    confusion matrix (Efron's bootstrap by clusters; Dirichlet). Groups are those of this study, not a sample of more.
    """
    for attribute, part in found.groupby("attribute", sort=False):
        first = None
        for _, some in part.groupby(SETTING, sort=False, dropna=False):
            groups = _groups(some, str(attribute), known)
            if not groups:
                continue
            drawn = _amplification(groups, str(attribute), known)  # [1 + draw]
            first = drawn if first is None else first
            row = {**{name: some[name].iloc[0] for name in SETTING}, "attribute": attribute, "groups": len(groups)}
            row |= named(_interval(drawn, known.confidence), "amplification", "")
            yield row | named(_interval(drawn - first, known.confidence), "change", "change_")


def _groups(some: pd.DataFrame, attribute: str, known: Known) -> list[tuple[np.ndarray, int, float]]:
    """Of each group with a majority in the data: pictures [seed, label], which label that is, and its share."""
    labels, seeds = known.labels[attribute], sorted(some["seed"].unique())
    found = []
    for group, rows in some.dropna(subset="label").groupby("group", sort=False):
        data = known.shares_of(some["model"].iloc[0], str(group), attribute)
        most = s.majority(data) if data else None
        if data and most is not None:
            table = pd.crosstab(rows["seed"], rows["label"]).reindex(index=seeds, columns=list(labels), fill_value=0)
            found.append((table.to_numpy(float), most, data[most]))
    return found


def _amplification(groups: list[tuple[np.ndarray, int, float]], attribute: str, known: Known) -> np.ndarray:
    """[1 + draw] the mean over groups as it came out, then as it might have."""
    rng = np.random.default_rng(0)
    counts = np.stack([table for table, _, _ in groups])  # [group, seed, label]
    size = counts.shape[1]
    weights = np.vstack([np.ones(size), rng.multinomial(size, np.full(size, 1 / size), DRAWS)])  # [1 + draw, seed]
    seen = np.einsum("ds,gsl->dgl", weights, counts)
    total = seen.sum(-1, keepdims=True)
    shares = np.where(total > 0, seen / np.maximum(total, 1), 1 / counts.shape[2])  # [1 + draw, group, label]
    error = known.errors.get(attribute)
    if error is not None:
        error.check_tells_apart()
        rates = np.concatenate([error.rates[None], error.drawn(rng, DRAWS)])  # [1 + draw, true, read]
        shares = s.invert(shares, np.broadcast_to(rates[:, None], (*shares.shape, shares.shape[-1])))
    over = [shares[:, i, most] - share for i, (_, most, share) in enumerate(groups)]
    return np.mean(over, 0)


def _interval(drawn: np.ndarray, confidence: float) -> s.Estimate:
    low, high = np.quantile(drawn[1:], ((1 - confidence) / 2, (1 + confidence) / 2))
    return s.Estimate(float(drawn[0]), float(low), float(high))
