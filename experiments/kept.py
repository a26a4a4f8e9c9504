"""Rows that took long to measure, kept in the repository: a small file an experiment and weights; later runs add."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from probe.generator import weights
from probe.study.results import replace_file

RESULTS = Path("experiments/results")


def place(experiment: str) -> Path:
    """Where the rows of an experiment with these weights of Menagerie are kept."""
    return RESULTS / f"{experiment}-{weights.revision()[:12]}.csv"


def read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that are kept, with these columns; none if there is no file. An empty cell is NaN."""
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    return pd.read_csv(path).loc[:, list(columns)]


def merged(old: pd.DataFrame, new: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Both, sorted by the columns that name a row; of two rows of one name the new one."""
    both: pd.DataFrame = pd.concat([part for part in (old, new) if len(part)] or [old], ignore_index=True)
    return both.drop_duplicates(list(keys), keep="last").sort_values(list(keys)).reset_index(drop=True)


def write(path: Path, rows: pd.DataFrame) -> Path:
    """Put the rows in place of those that were kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, rows.to_csv(index=False, lineterminator="\n").encode())
