"""What a setting costs in other scores of a study, such as closeness to the prompt, at equal templates and seeds."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from probe.bias.classifiers import PERCEIVED
from probe.bias.inside import INSIDE
from probe.bias.shares import Estimate
from probe.bias.tables import PAIR, SETTING, named
from probe.study.rows import COLUMNS

OURS = (PERCEIVED, INSIDE, "reference", "arm")  # first words of columns that are no scores
KEPT = ("group", "template")


def cost_rows(rows: pd.DataFrame, confidence: float = 0.95) -> Iterator[dict[str, Any]]:
    """One row a setting and score: its mean, and how far it is from the first setting's, with Student's interval.

    Pictures that were made at both settings are compared; a score that says nothing of one of them is left out there.
    """
    done = rows.loc[rows["status"] == "done"]
    scores = [str(name) for name in done if _is_score(str(name), done[name])]
    parts = [part for _, part in done.groupby(SETTING, sort=False, dropna=False)]
    for part in parts if scores else ():
        both = part.merge(parts[0], on=["group", *PAIR], suffixes=("", "_first"))
        for score in scores:
            pairs = both[[score, f"{score}_first"]].astype(float).dropna().to_numpy()
            if len(pairs):
                row = {**{name: part[name].iloc[0] for name in SETTING}, "score": score, "pictures": len(pairs)}
                row["value"] = float(pairs[:, 0].mean())
                yield row | named(mean_of(pairs[:, 0] - pairs[:, 1], confidence), "difference", "")


def mean_of(values: np.ndarray, confidence: float = 0.95) -> Estimate:
    """A mean with Student's interval; anything is possible where there is one value."""
    mean, size = float(values.mean()), len(values)
    if size < 2:
        return Estimate(mean, -math.inf, math.inf)
    reach = float(values.std(ddof=1) / math.sqrt(size) * t.ppf((1 + confidence) / 2, size - 1))
    return Estimate(mean, mean - reach, mean + reach)


def _is_score(name: str, column: pd.Series) -> bool:
    kinds = {type(value) for value in column.dropna()}
    return (
        name not in (*COLUMNS, *KEPT) and name.split("_")[0] not in OURS and bool(kinds) and kinds <= {bool, int, float}
    )
