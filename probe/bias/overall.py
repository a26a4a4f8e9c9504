"""Does a setting amplify what the data hold? The mean over groups, with seeds drawn anew for all groups together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from probe.bias import shares as s
from probe.bias.confusion import PRIOR, Confusion
from probe.bias.tables import SETTING, Known, named

DRAWS = 1000


def overall_rows(found: pd.DataFrame, known: Known) -> Iterator[dict[str, Any]]:
    """One row a setting and attribute: mean amplification over groups, and its change from the first setting.

    Intervals: seeds weighed anew, all groups and settings alike as these share them (Rubin's Bayesian bootstrap, 1981),
    and confusion matrices drawn. They are about other seeds: groups are those of this study, no sample of more.
    """
    for attribute, part in found.groupby("attribute", sort=False):
        first, seeds = None, sorted(part["seed"].unique())
        for number, (_, some) in enumerate(part.groupby(SETTING, sort=False, dropna=False)):
            groups = _groups(some, seeds, str(attribute), known)
            if not groups:
                continue
            drawn = _amplification(groups, known.errors.get(str(attribute)), number)  # [1 + draw]
            first = drawn if first is None else first
            row = {**{name: some[name].iloc[0] for name in SETTING}, "attribute": attribute, "groups": len(groups)}
            row |= named(_interval(drawn, known.confidence), "amplification", "")
            yield row | named(_interval(drawn - first, known.confidence), "change", "change_")


def _groups(some: pd.DataFrame, seeds: list[int], attribute: str, known: Known) -> list[tuple[np.ndarray, int, float]]:
    """Of each group with a majority in the data: pictures [seed, label], which label that is, and its share.

    `seeds` are those of all settings, so that a seed weighs the same in each, also where one has not drawn it yet.
    """
    labels = known.labels[attribute]
    found = []
    for group, rows in some.dropna(subset="label").groupby("group", sort=False):
        data = known.shares_of(some["model"].iloc[0], str(group), attribute)
        most = s.majority(data) if data else None
        if data and most is not None:
            table = np.zeros((len(seeds), len(labels)))
            for seed, label in zip(rows["seed"], rows["label"], strict=True):
                table[seeds.index(seed), labels.index(label)] += 1
            found.append((table, most, data[most]))
    return found


def _amplification(groups: list[tuple[np.ndarray, int, float]], error: Confusion | None, number: int) -> np.ndarray:
    """[1 + draw] the mean over groups as it came out, then as it might have.

    Seeds weigh as Gamma(1) draws and each label gets Gamma(PRIOR) more: with one picture a seed, a group's shares are
    then draws of the Dirichlet that `shares.corrected` draws from. Weights and matrices are the same at each setting.
    """
    rng, own = np.random.default_rng(0), np.random.default_rng((1, number))
    counts = np.stack([table for table, _, _ in groups])  # [group, seed, label]
    weights = rng.gamma(1.0, size=(DRAWS, counts.shape[1]))  # [draw, seed]
    more = own.gamma(PRIOR, size=(DRAWS, counts.shape[0], counts.shape[2]))
    drawn = np.einsum("ds,gsl->dgl", weights, counts) + more
    seen = np.concatenate([counts.sum(1)[None], drawn])  # [1 + draw, group, label]
    shares = seen / seen.sum(-1, keepdims=True)
    if error is not None:
        error.check_tells_apart()
        rates = np.concatenate([error.rates[None], error.drawn(rng, DRAWS)])  # [1 + draw, true, read]
        shares = s.invert(shares, np.broadcast_to(rates[:, None], (*shares.shape, shares.shape[-1])))
    return np.mean([shares[:, i, most] - share for i, (_, most, share) in enumerate(groups)], 0)


def _interval(drawn: np.ndarray, confidence: float) -> s.Estimate:
    """Quantiles of the draws, as wide as to hold what came out."""
    low, high = np.quantile(drawn[1:], ((1 - confidence) / 2, (1 + confidence) / 2))
    return s.Estimate(float(drawn[0]), min(float(low), float(drawn[0])), max(float(high), float(drawn[0])))
