"""Words, tokens and sites as parquet tables: one row an item, one column a field."""

import io
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from probe.errors import BadInput, DamagedFile
from probe.site import Site
from probe.store.manifest import REMEDY
from probe.words import Token, Word

Row = TypeVar("Row", bound=BaseModel)
TABLES: dict[str, type[BaseModel]] = {"words": Word, "tokens": Token, "sites": Site}
NEGATIVE: dict[str, type[BaseModel]] = {"negative_words": Word, "negative_tokens": Token}  # there only if not empty
SCALARS: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
ROWS, BYTES = 1_000_000, 256 * 2**20  # the largest table that is read


def encode_table(rows: Sequence[BaseModel], kind: type[BaseModel]) -> bytes:
    """Rows of one model as a parquet file with checksums on its pages. Raises BadInput for text that is no Unicode."""
    try:
        table = pa.Table.from_pylist([row.model_dump() for row in rows], schema=_schema(kind))
    except UnicodeError as error:
        raise BadInput(
            f"a {kind.__name__} holds text that no file can hold ({error}): remove lone surrogates"
        ) from error
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def decode_table(data: bytes, kind: type[Row], name: str) -> tuple[Row, ...]:
    """The rows of a parquet file. Raises DamagedFile when its columns, types or values are not the model's."""
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        _check_shape(file, kind, name)
        rows = file.read(use_threads=False).to_pylist(maps_as_pydicts="strict")
        return tuple(kind.model_validate(row) for row in rows)
    except (pa.ArrowException, OSError, ValidationError, KeyError) as error:
        raise DamagedFile(f"{name} is not a table of {kind.__name__}s ({error}). {REMEDY}") from error


def _check_shape(file: pq.ParquetFile, kind: type[BaseModel], name: str) -> None:
    expected = {field.name: field.type for field in _schema(kind)}
    found = {field.name: field.type for field in file.schema_arrow}
    wrong = [column for column, dtype in found.items() if expected.get(column) != dtype]
    if wrong or len(found) < len(file.schema_arrow):
        raise DamagedFile(f"{name} has the columns {found}, expected {expected}. {REMEDY}")
    meta = file.metadata
    size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    if not 0 <= meta.num_rows <= ROWS or not 0 <= size <= BYTES:
        raise DamagedFile(f"{name} declares {meta.num_rows:,} rows in {size:,} bytes, too many for a trace. {REMEDY}")


def _schema(kind: type[BaseModel]) -> pa.Schema:
    return pa.schema([(name, _arrow(field.annotation)) for name, field in kind.model_fields.items()])


def _arrow(annotation: Any) -> pa.DataType:
    """The column type of a field: text, numbers, optional ones, tuples of one type, dicts by text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow(arguments[0]))
    if origin is dict:
        return pa.map_(pa.string(), _arrow(arguments[1]))
    if type(None) in arguments:
        [annotation] = (argument for argument in arguments if argument is not type(None))
    return SCALARS[annotation]
