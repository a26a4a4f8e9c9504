"""From a study's rows to tidy tables. Pure: pandas and numpy, no pictures, no model.

A setting is a model, a method (an intervention, or plain), steps and guidance. Shares are of the pictures in which the
classifier read the attribute at all; the others are counted as unread.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from probe.bias import shares as s
from probe.bias.classifiers import PERCEIVED
from probe.bias.confusion import Confusion
from probe.bias.paired import Paired, compare, holm, swap_test

SETTING = ["model", "method", "steps", "guidance"]
CELL = [*SETTING, "attribute", "group"]
PAIR = ["template", "seed"]
MIX = "(mix)"  # the label of a row that compares all labels at once

Reference = Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]  # by model and group: attribute, label, share


@dataclass(frozen=True)
class Known:
    """What is known beside the readings. `errors`, `reference`: by attribute; by model and group, then attribute."""

    labels: Mapping[str, tuple[str, ...]]
    errors: Mapping[str, Confusion] = field(default_factory=dict)
    reference: Reference = field(default_factory=dict)
    confidence: float = 0.95

    def shares_of(self, model: str, group: str, attribute: str) -> list[float] | None:
        """The reference of one cell, in the order of the labels."""
        found = self.reference.get((model, group), {}).get(attribute)
        return None if found is None else [float(found.get(label, 0.0)) for label in self.labels[attribute]]


@dataclass(frozen=True)
class Cell:
    """The readings of one group at one setting, in the order of the labels.

    `counts`: pictures of each label; `read`: its share as read; `fixed`: without the classifier's error, None where
    that is not known; `data`: in the data, None where that is not known.
    """

    names: Mapping[str, Any]
    pictures: int
    labels: tuple[str, ...]
    counts: list[int]
    read: list[s.Estimate]
    fixed: list[s.Estimate] | None
    data: list[float] | None


def readings(rows: pd.DataFrame, labels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """One row a picture and attribute: setting, group, template, seed, its row, and the label, None where unread."""
    done = rows.loc[rows["status"] == "done"]
    kept = [*SETTING, "group", *PAIR]
    parts = [
        done.loc[:, kept].assign(attribute=attribute, row=done.index, label=done[f"{PERCEIVED}_{attribute}"])
        for attribute in labels
        if f"{PERCEIVED}_{attribute}" in done
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*kept, "attribute", "row", "label"])


def cells(found: pd.DataFrame, known: Known) -> Iterator[Cell]:
    """Every group at every setting, attribute by attribute, in the order of the study."""
    for key, rows in found.groupby(CELL, sort=False, dropna=False):
        names = dict(zip(CELL, _tuple(key), strict=True))
        labels, error = known.labels[names["attribute"]], known.errors.get(names["attribute"])
        counts = [list(rows["label"]).count(label) for label in labels]
        yield Cell(
            names=names,
            pictures=len(rows),
            labels=labels,
            counts=counts,
            read=[s.wilson(count, sum(counts), confidence=known.confidence) for count in counts],
            fixed=None if error is None else s.corrected(counts, error, confidence=known.confidence),
            data=known.shares_of(names["model"], names["group"], names["attribute"]),
        )


def share_rows(cell: Cell) -> Iterator[dict[str, Any]]:
    """One row a label: the share as read, corrected, in the data, and how much one is above the other."""
    counts, fixed, data = cell.counts, cell.fixed, cell.data
    for i, label in enumerate(cell.labels):
        best = (fixed or cell.read)[i]
        row = {**cell.names, "label": label, "pictures": cell.pictures, "read": sum(counts), "count": counts[i]}
        row |= named(cell.read[i], "share", "") | named(fixed[i] if fixed else None, "corrected", "corrected_")
        row["reference"] = data[i] if data else np.nan
        row |= named(best.minus(data[i]) if data else None, "over", "over_")
        yield row | {"ratio": best.value / data[i] if data and data[i] > 0 else np.nan}


def cell_row(cell: Cell) -> dict[str, Any]:
    """How even a cell is, and how much more frequent than in the data the data's majority label is.

    From corrected shares, where the error is known (`basis`). Amplification: the share of the label that most have in
    the data, minus its share there (as Zhao et al. 2017 count it); none where the data have no majority.
    """
    best, data = cell.fixed or cell.read, cell.data
    values = [each.value for each in best]
    most = s.majority(data) if data else None
    return {
        **cell.names,
        "pictures": cell.pictures,
        "unread": cell.pictures - sum(cell.counts),
        "basis": "corrected" if cell.fixed else "as read",
        "entropy": s.entropy(values),
        "effective": s.effective(values),
        "imbalance": s.imbalance(values),
        "majority": "" if most is None else cell.labels[most],
        **named(best[most].minus(data[most]) if data and most is not None else None, "amplification", ""),
    }


def comparison_rows(found: pd.DataFrame, known: Known) -> list[dict[str, Any]]:
    """Every setting against the first one, group by group; every group against the first one, setting by setting.

    Of two labels the first is compared, of more each one, and their mix by a swap test. `p_holm` is p, accounting for
    all tests of that attribute.
    """
    rows: list[dict[str, Any]] = []
    for attribute, part in found.groupby("attribute", sort=False):
        labels = known.labels[str(attribute)]
        across = [("settings", "group", SETTING), ("groups", SETTING, ["group"])]
        tests = [
            {"between": name, "attribute": attribute, **row}
            for name, within, axis in across
            for _, some in part.groupby(within, sort=False, dropna=False)
            for row in _against_first(some, axis, labels, known.confidence)
        ]
        rows += [row | {"p_holm": p} for row, p in zip(tests, holm([row["p"] for row in tests]), strict=True)]
    return rows


def _against_first(
    some: pd.DataFrame, axis: list[str], labels: tuple[str, ...], confidence: float
) -> Iterator[dict[str, Any]]:
    """Tests of every further setting (or group) against the first, at equal templates and seeds."""
    parts = [part for _, part in some.groupby(axis, sort=False, dropna=False)]
    for other in parts[1:]:
        both = parts[0].merge(other, on=PAIR, suffixes=("", "_second")).dropna(subset=["label", "label_second"])
        if both.empty:
            continue
        names = {name: both[name].iloc[0] for name in [*SETTING, "group"]}
        names |= {f"second_{name}": both[f"{name}_second"].iloc[0] for name in [*SETTING, "group"]}
        first, second = list(both["label"]), list(both["label_second"])
        for label in shown_labels(labels):
            test = compare([x == label for x in first], [x == label for x in second], confidence=confidence)
            yield {**names, "label": label, **_test(test)}
        if len(labels) > 2:
            distance, p = swap_test(first, second)
            yield {**names, "label": MIX, "difference": distance, "pairs": len(both), "p": p}


def shown_labels(labels: Sequence[str]) -> Sequence[str]:
    """Of two labels the first, as the other is what is left; of more, all."""
    return labels[:1] if len(labels) == 2 else labels


def _test(test: Paired) -> dict[str, Any]:
    counts = {"gained": test.gained, "lost": test.lost, "pairs": test.pairs, "p": test.p}
    return named(test.difference, "difference", "") | counts


def best(row: Mapping[str, Any]) -> s.Estimate:
    """The share in a row of the shares: corrected where the classifier's error is known, else as read."""
    fixed = "corrected" if row["corrected"] == row["corrected"] else ""
    return s.Estimate(row[fixed or "share"], *(row[f"{fixed}_{side}" if fixed else side] for side in ("low", "high")))


def named(estimate: s.Estimate | None, name: str, before: str) -> dict[str, float]:
    """A number and its interval as columns; NaN where there is none."""
    held = estimate or s.Estimate(np.nan, np.nan, np.nan)
    return {name: held.value, f"{before}low": held.low, f"{before}high": held.high}


def _tuple(key: Hashable) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)
