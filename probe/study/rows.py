"""Rows of the table as parquet: the columns that every job has, and those that scorers, explainers and prompts add."""

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

TEXTS = pa.list_(pa.string())
COLUMNS: dict[str, pa.DataType] = {
    "key": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "prompt": pa.string(),
    "subjects": TEXTS,
    "attributes": TEXTS,
    "seed": pa.int64(),
    "model": pa.string(),
    "digest": pa.string(),
    "method": pa.string(),
    "intervention": pa.string(),
    "settings": pa.string(),
    "steps": pa.int64(),
    "guidance": pa.float64(),
    "width": pa.int64(),
    "height": pa.int64(),
    "negative": pa.string(),
    "scheduler": pa.string(),
    "device": pa.string(),
    "notes": TEXTS,
    "seconds": pa.float64(),
    "created": pa.string(),
    "versions": pa.string(),
}


def encode_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as a parquet file with checksums on its pages."""
    sink = io.BytesIO()
    pq.write_table(merge(rows), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def merge(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """One table of all rows; what a row does not have is empty."""
    rows = list(rows)
    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
    return pa.table({name: _column([row.get(name) for row in rows], COLUMNS.get(name)) for name in names})


def flat(rows: "pd.DataFrame", write: Callable[[Any], str]) -> "pd.DataFrame":
    """The same table, each cell that holds several values written as one text."""
    return rows.map(lambda cell: write(plain(cell)) if isinstance(cell, np.ndarray | list | Mapping) else cell)


def plain(cell: Any) -> Any:
    """A cell as lists, dicts and single values; NaN is None, as it is in a list that lacks a number."""
    if isinstance(cell, Mapping):
        return {name: plain(part) for name, part in cell.items()}
    if isinstance(cell, np.ndarray | list):
        return [plain(part) for part in cell]
    single = cell.item() if isinstance(cell, np.generic) else cell
    return None if isinstance(single, float) and math.isnan(single) else single


def as_json(value: Any) -> str:
    """For programs: ["cat", "dog"]."""
    return json.dumps(value, ensure_ascii=False)


def as_words(value: Any) -> str:
    """For the eye: cat, dog; a dash where there is no value."""
    return ", ".join(map(_word, value)) if isinstance(value, list) else as_json(value)


def _word(part: Any) -> str:
    if part is None:
        return "-"
    return as_json(part) if isinstance(part, list | dict) else str(part)


def _column(values: list[Any], dtype: pa.DataType | None) -> pa.Array:
    """A column of one type; text where the values are of several."""
    try:
        return pa.array(values, type=dtype)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
