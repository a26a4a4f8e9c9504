"""Does a setting amplify what the data hold? The mean over groups, with seeds drawn anew for all groups together."""

from collections.abc import Iterator, Mapping
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
    and confusion matrices drawn. They are about other seeds: groups are those of this study, no sample of more. A
    change is over the groups that both settings have pictures of, and NaN where there is none.
    """
    for attribute, part in found.groupby("attribute", sort=False):
        first, seeds = None, sorted(part["seed"].unique())
        for number, (_, some) in enumerate(part.groupby(SETTING, sort=False, dropna=False)):
            groups = _groups(some, seeds, str(attribute), known)
            if not groups:
                continue
            drawn = _amplification(groups, known.errors.get(str(attribute)), number)  # [1 + draw, group]
            first = drawn if first is None else first
            row = {**{name: some[name].iloc[0] for name in SETTING}, "attribute": attribute, "groups": len(groups)}
            row |= named(_interval(drawn, known.confidence), "amplification", "")
            yield row | named(_interval(drawn - first, known.confidence), "change", "change_")


Group = tuple[np.ndarray, int, float]  # pictures [seed, label]; which label most have in the data, and its share there


def _groups(some: pd.DataFrame, seeds: list[int], attribute: str, known: Known) -> dict[str, Group]:
    """Of each group with a majority in the data what was read of it.

    `seeds` are those of all settings, so that a seed weighs the same in each, also where one has not drawn it yet.
    """
    labels = known.labels[attribute]
    found: dict[str, Group] = {}
    for group, rows in some.dropna(subset="label").groupby("group", sort=False):
        data = known.shares_of(some["model"].iloc[0], str(group), attribute)
        most = s.majority(data) if data else None
        if data and most is not None:
            table = np.zeros((len(seeds), len(labels)))
            for seed, label in zip(rows["seed"], rows["label"], strict=True):
                table[seeds.index(seed), labels.index(label)] += 1
            found[str(group)] = (table, most, data[most])
    return found


def _amplification(groups: Mapping[str, Group], error: Confusion | None, number: int) -> pd.DataFrame:
    """[1 + draw, group] each as it came out, then as it might have.

    Seeds weigh as Gamma(1) draws and each label gets Gamma(PRIOR) more: with one picture a seed, a group's shares are
    then draws of the Dirichlet that `shares.corrected` draws from. Weights and matrices are the same at each setting.
    """
    rng, own = np.random.default_rng(0), np.random.default_rng((1, number))
    counts = np.stack([table for table, _, _ in groups.values()])  # [group, seed, label]
    weights = rng.gamma(1.0, size=(DRAWS, counts.shape[1]))  # [draw, seed]
    more = own.gamma(PRIOR, size=(DRAWS, counts.shape[0], counts.shape[2]))
    drawn = np.einsum("ds,gsl->dgl", weights, counts) + more
    seen = np.concatenate([counts.sum(1)[None], drawn])  # [1 + draw, group, label]
    shares = seen / seen.sum(-1, keepdims=True)
    if error is not None:
        error.check_tells_apart()
        rates = np.concatenate([error.rates[None], error.drawn(rng, DRAWS)])  # [1 + draw, true, read]
        shares = s.invert(shares, np.broadcast_to(rates[:, None], (*shares.shape, shares.shape[-1])))
    return pd.DataFrame({name: shares[:, i, most] - own for i, (name, (_, most, own)) in enumerate(groups.items())})


def _interval(drawn: pd.DataFrame, confidence: float) -> s.Estimate:
    """The mean over groups: quantiles of the draws, as wide as to hold what came out. A group of NaN does not count."""
    means = drawn.mean(axis=1).to_numpy()
    low, high = np.quantile(means[1:], ((1 - confidence) / 2, (1 + confidence) / 2))
    return s.Estimate(float(means[0]), min(float(low), float(means[0])), max(float(high), float(means[0])))
