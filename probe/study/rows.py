"""Rows of the table as parquet: the columns that every job has, and those that scorers, explainers and prompts add."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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


def _column(values: list[Any], dtype: pa.DataType | None) -> pa.Array:
    """A column of one type; text where the values are of several."""
    try:
        return pa.array(values, type=dtype)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
