"""What a zarr.json may say. Everything else is refused before the zarr library sees it."""

import math
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from probe.errors import DamagedFile
from probe.store.plain import parse

DataType = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"
]
CHUNKS = 2**22  # the most pieces that one array may be cut into
LIMIT = 2**22  # bytes of a zarr.json
Meta = TypeVar("Meta", bound="_Strict")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _ChunkShape(_Strict):
    chunk_shape: list[PositiveInt]


class _Grid(_Strict):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Plain(_Strict):
    name: Literal["bytes", "blosc", "zstd", "crc32c"]
    configuration: dict[str, str | int | bool] = {}


class _Sharding(_Strict):
    chunk_shape: list[PositiveInt]
    codecs: list[_Plain]
    index_codecs: list[_Plain]
    index_location: Literal["start", "end"] = "end"


class _Sharded(_Strict):
    name: Literal["sharding_indexed"]
    configuration: _Sharding


class _Separator(_Strict):
    separator: Literal["/", "."] = "/"


class _Keys(_Strict):
    name: Literal["default"]
    configuration: _Separator = _Separator()


class GroupMeta(_Strict):
    """A group: its attributes."""

    zarr_format: Literal[3]
    node_type: Literal["group"]
    attributes: dict[str, Any] = {}
    consolidated_metadata: None = None


class ArrayMeta(_Strict):
    """An array of numbers: its shape, its type and how it is cut and packed."""

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: list[int] = Field(max_length=16)
    data_type: DataType
    chunk_grid: _Grid
    chunk_key_encoding: _Keys
    codecs: list[_Sharded | _Plain]
    fill_value: str | bool | int | float
    attributes: dict[str, Any] = {}
    dimension_names: list[str] = []
    storage_transformers: list[None] = Field(default=[], max_length=0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one number."""
        return np.dtype(self.data_type)

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory, or of one chunk if that is larger."""
        chunk = math.prod(self.chunk_grid.configuration.chunk_shape)
        return max(math.prod(self.shape), chunk) * self.dtype.itemsize

    @property
    def pieces(self) -> int:
        """How many of the smallest chunks it is cut into."""
        outer = self.chunk_grid.configuration.chunk_shape
        sharded = [codec.configuration.chunk_shape for codec in self.codecs if isinstance(codec, _Sharded)]
        inner = sharded[0] if sharded else outer
        covered = [math.ceil(max(1, size) / part) * part for size, part in zip(self.shape, outer, strict=True)]
        return math.prod(math.ceil(size / part) for size, part in zip(covered, inner, strict=True))


def parse_meta(data: bytes, name: str) -> GroupMeta | ArrayMeta:
    """A zarr.json, checked. Raises DamagedFile for other formats, types and codecs than a trace has."""
    body = parse(data, name)
    if body.get("zarr_format") != 3:
        raise DamagedFile(f"{name} has zarr_format {body.get('zarr_format')!r}, a trace has 3: not written by `save`")
    if body.get("node_type") == "group":
        return _validate(GroupMeta, body, name)
    meta = _validate(ArrayMeta, body, name)
    _check_shapes(meta, name)
    return meta


def _validate(kind: type[Meta], body: dict[str, Any], name: str) -> Meta:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DamagedFile(
            f"{name} holds {first['input']!r:.80} at {place}, which a trace never has ({first['msg']}): "
            "not written by `save`, do not trust it"
        ) from error


def _check_shapes(meta: ArrayMeta, name: str) -> None:
    rank = len(meta.shape)
    ranks = [len(meta.chunk_grid.configuration.chunk_shape), len(meta.dimension_names)]
    ranks += [len(codec.configuration.chunk_shape) for codec in meta.codecs if isinstance(codec, _Sharded)]
    if any(r != rank for r in ranks) or any(size < 0 for size in meta.shape):
        raise DamagedFile(f"{name} has the shape {meta.shape} but chunks or names of another rank: do not trust it")
    if len(set(meta.dimension_names)) < rank:
        raise DamagedFile(f"{name} names an axis twice: {meta.dimension_names}; not written by `save`")
    if meta.pieces > CHUNKS:
        raise DamagedFile(f"{name} is cut into {meta.pieces:,} pieces, at most {CHUNKS:,} are read: do not trust it")
