"""What a model did inside, by what came out: what words got, and the pull of guidance, beside the perceived label.

A link between inside and outcome, which is no cause: the noise decides both. Whether a word drives the outcome is
asked by changing it (`study(..., arms=...)`, or any intervention), at equal seeds.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import t

from probe.bias.paired import holm
from probe.bias.shares import Estimate
from probe.bias.tables import CELL, SETTING, Known, named, shown_labels
from probe.explain.relevancy import relevancy_maps
from probe.readings import content_words, word_maps
from probe.study.methods import rewords
from probe.study.question import Method
from probe.study.scorers import Scorer, Shot, Values

if TYPE_CHECKING:
    from probe.trace import Trace

INSIDE = "inside"  # what the table's columns begin with: inside_noun
NOUN, PULL, EARLY = "noun", "pull", "pull_early"
RELEVANCY = "relevancy"  # an explainer of a study, and what its measures begin with: relevancy_noun
ALL = "(all)"  # the group of a row that takes all groups together, each less its own mean
LEAST = 2  # pictures on either side


class Inside(Scorer):
    """Of a recorded job: what words get, and how hard guidance pulls.

    noun (the group's own words together), and each further word that was recorded by its label: share of its attention
    that a cell gives to it, mean over cells, sites and steps. relevancy_noun, and each further content word: its share
    of the relevancy of all content words, mean over the explained steps, where the study asked for that. Neither where
    an intervention has the model read other text: nothing there is a word of the prompt. pull: norm of conditional
    minus unconditional prediction, mean over steps; pull_early: over the first fifth. None where guidance was off.
    """

    reads = ("group",)

    def score(self, shot: Shot) -> Values:
        if shot.trace is None:
            return {}
        nouns = set(str(shot.job.row.columns.get("group", "")).split())
        words = {} if rewords(shot.job.method) else {**_attention(shot.trace, nouns), **_relevancy(shot.trace, nouns)}
        return words | _pull(shot.trace)


def _attention(trace: "Trace", nouns: Collection[str]) -> dict[str, float]:
    labels = content_words(trace)
    means = word_maps(trace, labels).mean(("step", "y", "x"))
    return _together(((each, float(means.sel(word=each))) for each in labels), nouns)


def _relevancy(trace: "Trace", nouns: Collection[str]) -> dict[str, float]:
    if RELEVANCY not in trace.tree.children:
        return {}
    amounts = relevancy_maps(trace).sum(("y", "x"))  # [step, word]
    shares = (amounts / amounts.sum("word")).mean("step").to_series()
    told = _together(((str(word), float(share)) for word, share in shares.items()), nouns)
    return {f"{RELEVANCY}_{word}": share for word, share in told.items()}


def _together(shares: Iterable[tuple[str, float]], nouns: Collection[str]) -> dict[str, float]:
    """By word, those of the group as one: it may have several."""
    found: dict[str, float] = {}
    for word, share in shares:
        name = NOUN if word in nouns else word
        found[name] = found.get(name, 0.0) + share
    return found


def method() -> Method:
    """The scorer as a study names it."""
    return Method(method=f"{Inside.__module__}:{Inside.__qualname__}", label=INSIDE)


def _pull(trace: "Trace") -> dict[str, float | None]:
    if "guidance" not in trace.tree.children or "difference_norm" not in trace.node("guidance"):
        return {PULL: None, EARLY: None}
    norms = trace.node("guidance")["difference_norm"].isel(image=0).values  # [step]
    return {PULL: float(norms.mean()), EARLY: float(norms[: math.ceil(len(norms) / 5)].mean())}


def welch(one: Sequence[float], other: Sequence[float], *, confidence: float = 0.95) -> tuple[Estimate, float]:
    """The difference of two means, first minus second, and its p-value: Welch's t-test (1947).

    NaN where either side has one value, or all values are the same.
    """
    a, b = np.asarray(one, float), np.asarray(other, float)
    if min(len(a), len(b)) < LEAST or a.std() + b.std() == 0:
        return Estimate(math.nan, math.nan, math.nan), math.nan
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    d, error = float(a.mean() - b.mean()), math.sqrt(va + vb)
    reach = error * float(t.ppf((1 + confidence) / 2, freedom))
    return Estimate(d, d - reach, d + reach), float(2 * t.sf(abs(d) / error, freedom))


def inside_rows(rows: pd.DataFrame, found: pd.DataFrame, known: Known) -> list[dict[str, Any]]:
    """One row a measure, label and group, and one for all groups: its mean with the label, and without.

    `found`: the readings of the same rows. `p_holm` accounts for all tests of an attribute that could be made.
    """
    measures = [name for name in rows if str(name).startswith(f"{INSIDE}_")]
    if not measures:
        return []
    joined = found.dropna(subset="label").join(rows[measures].astype(float), on="row")
    tests: list[dict[str, Any]] = []
    for _, part in joined.groupby("attribute", sort=False):
        made = [test for test in _tests(part, measures, known) if not math.isnan(test["p"])]
        tests += [row | {"p_holm": p} for row, p in zip(made, holm([row["p"] for row in made]), strict=True)]
    return tests


def _tests(part: pd.DataFrame, measures: Sequence[str], known: Known) -> Iterator[dict[str, Any]]:
    """Every test of one attribute."""
    for _, some in part.groupby(SETTING, sort=False, dropna=False):
        centred = some.assign(group=ALL)
        centred[measures] = some[measures] - some.groupby("group")[list(measures)].transform("mean")
        for _, cell in pd.concat([some, centred]).groupby("group", sort=False):
            for measure in measures:
                yield from _of_cell(cell.dropna(subset=measure), measure, known)


def _of_cell(cell: pd.DataFrame, measure: str, known: Known) -> Iterator[dict[str, Any]]:
    if cell.empty:
        return
    names: Mapping[str, Any] = {name: cell[name].iloc[0] for name in CELL}
    for label in shown_labels(known.labels[names["attribute"]]):
        with_it, without = (list(cell.loc[(cell["label"] == label) == side, measure]) for side in (True, False))
        found, p = welch(with_it, without, confidence=known.confidence)
        counts = {"label": label, "measure": measure.removeprefix(f"{INSIDE}_"), "with": len(with_it), "p": p}
        means = {"without": len(without), "mean": float(np.mean(cell[measure]))}
        yield {**names, **counts, **means, **named(found, "difference", "")}
