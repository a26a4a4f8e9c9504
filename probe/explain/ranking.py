"""The table of which map is true: rows of single numbers become means with intervals; where the shipped one lies.

A row is one number: picture, source, method, word, role, kind, measure, value, and for the measure "overlap" a `curve`
over `faithfulness.LEVELS`. The table has one line a scope, method and measure. It holds for the model and the pictures
it was measured on, and says nothing of others.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from probe.explain import faithfulness

HOME = Path(__file__).with_name("measured")  # table.csv, and METHOD.png: where each method fails
COMMAND = "python -m experiments.which_map_is_true --write"
OVERLAP = "overlap (mIoU)"
BASELINES = ("daam", "attention")
MEASURES: Mapping[str, str] = {
    OVERLAP: "intersection over union with the mask, at one threshold chosen on the other half of the pictures",
    "precision": "average precision of the mask's pixels, ranked by the map",
    "pointing": "share of maps whose largest value lies on the mask",
    **{f"{OVERLAP} over {name}": f"the same less that of {name}, on the same words" for name in BASELINES},
    "agreement with leave-one-out": "rank correlation with what the prediction loses without the word",
    "deletion": "change of the subject as words are taken away, those that the map ranks highest first; high is good",
    "deletion outside": "the same for all other pixels, whose change should come late; low is good",
    "least first": "deletion from the lowest rank; low is good",
    "insertion": "how soon the subject comes back as words are put in, highest rank first; high is good",
    "order of words": "rank correlation of the words' order with the subject's change when each alone is left out",
    "change inside": "share of the first word's change that lies on the subject",
    "shuffled weights": "agreement, without sign, with the map of a model whose weights are shuffled; low is good",
    "another prompt": "agreement, without sign, with a noun's map for another prompt; low is good",
    "completeness": "distance from what the values must sum to, as a share of it, where a method promises a sum",
    "sums to one": "largest distance from 1 of attention summed over all words",
}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a scope, method and measure: mean, low and high of its 95 % interval, count of words.

    Scopes are "all", each source, role and class.
    """
    values = pd.concat([rows.query("measure != 'overlap'"), *_overlaps(rows.query("measure == 'overlap'"))])
    scopes = {"all": values}
    for column in ("source", "role", "kind"):
        names = [name for name in values[column].unique() if name != "all"]
        scopes |= {name: values.loc[values[column] == name] for name in names}
    return pd.concat([_lines(scope, part) for scope, part in scopes.items()], ignore_index=True)


def measured(home: Path = HOME) -> pd.DataFrame | None:
    """The table that comes with this version, or None where nothing was measured yet."""
    path = home / "table.csv"
    return pd.read_csv(path) if path.is_file() else None


def examples(method: str, home: Path = HOME) -> Path:
    """Where the cases lie in which a method fails worst."""
    return home / f"{re.sub(r'[^a-z0-9]+', '-', method)}.png"


def markdown(table: pd.DataFrame, scope: str = "all") -> str:
    """One row a method, best overlap first, one column a measure."""
    part = table.loc[table["scope"] == scope]
    measures = [measure for measure in MEASURES if measure in set(part["measure"])]
    numbers = zip(part["mean"], part["low"], part["high"], part["count"], strict=True)
    text = part.assign(text=[str(faithfulness.Interval(*each)) for each in numbers])
    cells = text.pivot(index="method", columns="measure", values="text").reindex(ordered(part), columns=measures)
    head = ["| method | " + " | ".join(measures) + " |", "| --- |" + " ---: |" * len(measures)]
    return "\n".join([*head, *(f"| {name} | {' | '.join(row)} |" for name, row in _filled(cells))])


def ordered(part: pd.DataFrame) -> list[str]:
    """The methods of one scope, largest overlap first; those without one last."""
    scored = part.loc[part["measure"] == OVERLAP].sort_values(by="mean", ascending=False)
    names = [str(name) for name in scored["method"]]
    return [*names, *sorted({str(name) for name in part["method"]} - set(names))]


def _filled(cells: pd.DataFrame) -> list[tuple[str, list[str]]]:
    return [
        (str(name), [str(cell) for cell in row]) for name, row in zip(cells.index, cells.fillna("").values, strict=True)
    ]


def _overlaps(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Overlaps at the held-out level of each method, and their differences from each baseline on the same words."""
    if rows.empty:
        return []
    parts = [_at_level(part) for _, part in rows.groupby("method")]
    values = pd.concat(parts).assign(measure=OVERLAP)
    keys = ["source", "picture", "word"]
    found = [values]
    for name in BASELINES:
        base = values.loc[values["method"] == name, [*keys, "value"]]
        paired = values.loc[values["method"] != name].merge(base, on=keys, suffixes=("", " of base"))
        found.append(paired.assign(value=paired["value"] - paired["value of base"], measure=f"{OVERLAP} over {name}"))
    return found


def _at_level(part: pd.DataFrame) -> pd.DataFrame:
    curves = np.array(part["curve"].tolist())  # [row, level]
    return part.assign(value=faithfulness.held_out(curves, part["picture"].tolist()))


def _lines(scope: str, values: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for key, part in values.groupby(values["method"] + "\n" + values["measure"]):
        method, measure = str(key).split("\n")
        pictures = pd.factorize(part["source"] + part["picture"].astype(str))[0]
        found = faithfulness.interval(part["value"].tolist(), pictures.tolist())
        lines.append({"scope": scope, "method": method, "measure": measure} | vars(found))
    return pd.DataFrame(lines)
