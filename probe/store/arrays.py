"""Arrays as zarr v3: how each is cut into chunks and shards, and its files, one slab of steps at a time."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from probe.axes import BRANCH, HEAD, IMAGE, SITE, STEP, TOKEN, WORD
from probe.errors import BadInput
from probe.store.plain import plain

KINDS = "biuf"
CHUNK, SHARD = 2**20, 2**23  # bytes: a chunk is what one read decodes, a shard is what one file holds
TIMES = (STEP, "time")
CUTS = {STEP: 1, "time": 1, SITE: 1, WORD: 8, TOKEN: 8, IMAGE: 1, BRANCH: 1, HEAD: 1}  # in this order, while too large


def is_text(variable: xr.Variable) -> bool:
    """Whether a variable holds text; raises BadInput when it holds neither text nor numbers."""
    kind = variable.dtype.kind
    if kind in "UT" or (kind == "O" and all(isinstance(value, str) for value in variable.values.flat)):
        return True
    if kind not in KINDS or variable.dtype.itemsize > 8:
        raise BadInput(f"an array of {variable.dtype} with dims {variable.dims} cannot be saved: keep plain numbers")
    return False


def encode_group(attributes: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The files of a group, by their path inside it."""
    files: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(files), attributes=plain(attributes, "attrs"), zarr_format=3)
    yield from _drain(files)


def encode_array(variable: xr.Variable) -> Iterator[tuple[str, bytes]]:
    """The files of an array, by their path inside it; holds one shard of steps in memory at a time."""
    chunk, shard = layout(variable.sizes, variable.dtype.itemsize)
    files: dict[str, Buffer] = {}
    dtype = variable.dtype.newbyteorder("=")
    array = zarr.create_array(
        MemoryStore(files),
        shape=variable.shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard or None,
        compressors=(BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()),
        fill_value=float("nan") if dtype.kind == "f" else dtype.type(0),
        dimension_names=[str(dim) for dim in variable.dims] or None,
        attributes=plain(variable.attrs, "attrs"),
        chunk_key_encoding={"name": "default", "separator": "."},  # no folder of its own for each axis
        zarr_format=3,
    )
    for slab in _slabs(variable.sizes, shard):
        array[slab] = np.asarray(variable[slab].values, dtype=dtype)
        yield from _drain(files)
    yield from _drain(files)


def layout(sizes: Mapping[Any, int], itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a chunk and of a shard: small arrays stay whole, large ones are cut by step, site, words, ...

    No finer than they must: a chunk costs about a millisecond to read, however little is in it.
    """
    chunk = {dim: max(1, size) for dim, size in sizes.items()}
    for dim in (dim for dim in CUTS if dim in chunk):
        fits = CHUNK * chunk[dim] // (itemsize * math.prod(chunk.values()))
        chunk[dim] = min(chunk[dim], max(CUTS[dim], fits))
    shard = {dim: math.ceil(max(1, sizes[dim]) / part) * part for dim, part in chunk.items()}
    for dim in (dim for dim in TIMES if dim in shard):
        step = itemsize * math.prod(shard.values()) // shard[dim]
        shard[dim] = min(shard[dim], max(1, SHARD // (step * chunk[dim])) * chunk[dim])
    return tuple(chunk.values()), tuple(shard.values())


def _slabs(sizes: Mapping[Any, int], shard: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    whole = [slice(None)] * len(shard)
    axis = next((i for i, dim in enumerate(sizes) if dim in TIMES), None)
    if axis is None:
        yield tuple(whole)
        return
    for start in range(0, list(sizes.values())[axis], shard[axis]):
        whole[axis] = slice(start, start + shard[axis])
        yield tuple(whole)


def _drain(files: dict[str, Buffer]) -> Iterator[tuple[str, bytes]]:
    while files:
        path, buffer = files.popitem()
        yield path, buffer.to_bytes()
