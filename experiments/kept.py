"""Rows that took long to measure, kept in the repository: a small file an experiment and weights; later runs add.

A table by default; parquet for rows with lists in their cells, as those of a study.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from probe.errors import BadInput, DamagedFile
from probe.generator import weights
from probe.study.results import replace_file
from probe.study.rows import encode_rows

RESULTS = Path("experiments/results")
PARQUET = ".parquet"


def place(experiment: str, suffix: str = ".csv") -> Path:
    """Where the rows of an experiment with these weights of Menagerie are kept."""
    return RESULTS / f"{experiment}-{weights.revision()[:12]}{suffix}"


def read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that are kept, with these columns and what others there are; none if there is no file.

    An empty cell is NaN. Raises DamagedFile for a file without one of the columns.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    rows = pd.read_parquet(path) if path.suffix == PARQUET else pd.read_csv(path)
    missing = [name for name in columns if name not in rows]
    if missing:
        raise DamagedFile(f"{path} has no column {', '.join(missing)}; it is of another experiment: move it away")
    return rows


def merged(old: pd.DataFrame, new: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Both, sorted by the columns that name a row; of two rows of one name the new one."""
    both: pd.DataFrame = pd.concat([part for part in (old, new) if len(part)] or [old], ignore_index=True)
    return both.drop_duplicates(list(keys), keep="last").sort_values(list(keys)).reset_index(drop=True)


def write(path: Path, rows: pd.DataFrame) -> Path:
    """Put the rows in place of those that were kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace_file(path, _parquet(rows) if path.suffix == PARQUET else _csv(rows))


def refuse_rehearsal(given: argparse.Namespace) -> None:
    """Raises BadInput where the numbers of a rehearsal would be written where measured ones belong."""
    if given.small and given.write:
        raise BadInput("--small is a rehearsal, whose numbers mean nothing, and --write puts them into docs: leave one")


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n").encode()


def _parquet(rows: pd.DataFrame) -> bytes:
    cells = rows.astype(object)
    return encode_rows(cells.where(cells.notna(), None).to_dict("records"))
