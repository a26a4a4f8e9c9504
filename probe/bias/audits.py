"""What a bias study found, as tables that can be saved, read back and drawn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probe.bias.confusion import Confusion
from probe.bias.costs import cost_rows
from probe.bias.inside import inside_rows
from probe.bias.overall import overall_rows
from probe.bias.question import check_enough, classifier_of, reference_of
from probe.bias.tables import SETTING, Known, cell_row, cells, comparison_rows, readings, share_rows
from probe.errors import BadInput, DamagedFile
from probe.study.question import Study
from probe.study.reading import read_data
from probe.study.results import replace_file

if TYPE_CHECKING:
    from probe.bias.classifiers import Classifier

SUMMARY, ERRORS = "summary.json", "errors.json"
TABLES = ("shares", "cells", "overall", "comparisons", "inside", "costs")
INTERVAL = ["low", "high"]
SHARES = [
    *SETTING,
    *("attribute", "group", "label", "pictures", "read", "count", "share", *INTERVAL),
    *("corrected", "corrected_low", "corrected_high", "reference", "over", "over_low", "over_high", "ratio"),
]
CELLS = [
    *SETTING,
    *("attribute", "group", "pictures", "unread", "basis", "entropy", "effective", "imbalance", "majority"),
    *("amplification", *INTERVAL),
]
OVERALL = [*SETTING, "attribute", "groups", "amplification", *INTERVAL, "change", "change_low", "change_high"]
COMPARISONS = [
    *("between", "attribute", *SETTING, "group", *(f"second_{name}" for name in [*SETTING, "group"]), "label"),
    *("difference", *INTERVAL, "gained", "lost", "pairs", "p", "p_holm"),
]
INSIDE = [
    *(*SETTING, "attribute", "group", "label", "measure", "with", "without", "mean"),
    *("difference", *INTERVAL, "p", "p_holm"),
]
COSTS = [*SETTING, "score", "pictures", "value", "difference", *INTERVAL]
COLUMNS = dict(zip(TABLES, (SHARES, CELLS, OVERALL, COMPARISONS, INSIDE, COSTS), strict=True))
LIMITS = (
    "Attributes are perceived: a classifier's reading of a picture, not the identity of anyone.",
    "The classifier errs. Corrected shares hold if it errs on these pictures as on those its error was measured on.",
    "The labels are the classifier's. People whom none of them describes are counted as one of them, or not at all.",
    "The shares are of these prompts, seeds and settings; other words for the same people may give others.",
    "Intervals count pictures as independent, but for the overall one, which draws seeds anew.",
    "A difference between settings is no account of its cause, and none of what such pictures do to people.",
    "What went on inside beside an outcome is no cause of it: the noise decides both.",
)


@dataclass(frozen=True)
class Audit:
    """What was found, as tables; `classifier` read the pictures. Holds no model. Their columns: COLUMNS of this file.

    Without a known error corrected columns are NaN. `inside` has rows if the study recorded, `costs` if other scorers
    than the classifier looked at the pictures.
    """

    shares: pd.DataFrame
    cells: pd.DataFrame
    overall: pd.DataFrame
    comparisons: pd.DataFrame
    inside: pd.DataFrame
    costs: pd.DataFrame
    classifier: str = ""
    confidence: float = 0.95
    errors: Mapping[str, Confusion] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the tables, errors.json and summary.json; a study's folder may hold them. Returns summary.json."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            replace_file(path / f"{name}.parquet", getattr(self, name).to_parquet(None, index=False))
        write_errors(path, self.classifier, self.errors)
        return replace_file(path / SUMMARY, json.dumps(self.data(), indent=1).encode())

    def data(self) -> dict[str, Any]:
        """All of it as JSON can hold it; what is not known is null."""
        tables = {name: json.loads(getattr(self, name).to_json(orient="records")) for name in TABLES}
        errors = {name: error.data() for name, error in self.errors.items()}
        said = {"classifier": self.classifier, "confidence": self.confidence, "limits": list(LIMITS)}
        return {"format": "probe bias audit", "schema_version": 1, **said, "errors": errors, **tables}

    def figure(self, attribute: str) -> Any:
        """A matplotlib figure: shares with intervals by group, beside those of the data. Raises BadInput."""
        from probe.bias.report import draw

        return draw(self, attribute)

    def report(self, path: str | Path, *, exist_ok: bool = False) -> Path:
        """Write a page of HTML that holds all it shows: figures, tables, limits. Raises OutputError."""
        from probe.bias.card import card
        from probe.show import audit_report

        return audit_report(card(self), path, exist_ok=exist_ok)

    def __str__(self) -> str:
        from probe.bias.report import text

        return text(self)


def tidy(rows: pd.DataFrame, known: Known) -> Audit:
    """The audit of a study's rows (`Study.table()`), all but its classifier's name. Pure. Raises BadInput for none."""
    found = readings(rows, known.labels)
    if found.empty:
        raise BadInput(f"no finished picture was read for {', '.join(known.labels)}; run the study first")
    every = list(cells(found, known))
    made = {
        "shares": [row for cell in every for row in share_rows(cell)],
        "cells": [cell_row(cell) for cell in every],
        "overall": list(overall_rows(found, known)),
        "comparisons": comparison_rows(found, known),
        "inside": inside_rows(rows, found, known),
        "costs": list(cost_rows(rows, known.confidence)),
    }
    tables: dict[str, Any] = {name: pd.DataFrame(made[name], columns=COLUMNS[name]) for name in TABLES}
    return Audit(**tables, confidence=known.confidence, errors=known.errors)


def audit(
    study: Study | str | Path,
    *,
    errors: Mapping[str, Confusion] | None = None,
    confidence: float = 0.95,
    within: float | None = None,
) -> Audit:
    """What a bias study, or the folder of one, has found so far.

    `errors`: the classifier's confusion matrices, from `measure`; left out, those in the folder (errors.json), else
    what is measured on rendered scenes for a classifier of Menagerie, else none, and nothing is corrected. Raises
    BadInput: no picture yet, or too few in a cell for intervals that reach no further than `within`.
    """
    resolved = Study.open(study.path if isinstance(study, Study) else study)
    classifier = classifier_of(resolved)
    known = errors if errors is not None else _errors(resolved.path, classifier)
    _check_errors(classifier.labels, known)
    made = tidy(resolved.table(), Known(classifier.labels, known, reference_of(resolved), confidence))
    if within is not None:
        check_enough(min(map(int, made.shares["read"])), within, confidence=confidence)
    return Audit(**{**vars(made), "classifier": classifier.name})


def open_audit(folder: str | Path) -> Audit:
    """An audit that was saved in a folder. Raises BadInput, DamagedFile."""
    path = Path(folder).expanduser()
    if not (path / SUMMARY).is_file():
        raise BadInput(f"{folder} holds no {SUMMARY}; make one: probe.bias.audit(folder).save(folder)")
    data = read_data(path / SUMMARY)
    try:
        tables = {name: _read_back(data[name], wanted) for name, wanted in COLUMNS.items()}
        errors = {name: Confusion.from_data(error) for name, error in data["errors"].items()}
        return Audit(**tables, classifier=data["classifier"], confidence=data["confidence"], errors=errors)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DamagedFile(f"{path / SUMMARY} is not an audit ({error}); make it again from the study") from error


def _read_back(rows: Any, columns: list[str]) -> pd.DataFrame:
    """A table from JSON, in which what is not known is null; here it is NaN, as when it was made."""
    table = pd.DataFrame(rows, columns=columns)
    return table.where(table.notna(), np.nan)


def write_errors(folder: Path, classifier: str, errors: Mapping[str, Confusion]) -> Path:
    """Keep the classifier's error beside the study."""
    data = {"classifier": classifier, "errors": {name: error.data() for name, error in errors.items()}}
    return replace_file(folder / ERRORS, json.dumps(data, indent=1).encode())


def _errors(folder: Path, classifier: "Classifier") -> Mapping[str, Confusion]:
    """As kept in the folder for this very classifier; else measured, where its pictures can be rendered."""
    if (folder / ERRORS).is_file():
        data = read_data(folder / ERRORS)
        if isinstance(data, Mapping) and data.get("classifier") == classifier.name:
            return {name: Confusion.from_data(error) for name, error in data.get("errors", {}).items()}
    from probe.bias.error import measure_rendered

    return measure_rendered(classifier)


def _check_errors(labels: Mapping[str, tuple[str, ...]], errors: Mapping[str, Confusion]) -> None:
    wrong = [name for name, error in errors.items() if name in labels and error.labels != labels[name]]
    if wrong:
        found, wanted = errors[wrong[0]].labels, labels[wrong[0]]
        raise BadInput(f"the error of {wrong[0]!r} is of the labels {found}, the classifier has {wanted}")
