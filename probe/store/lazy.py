"""Arrays that are read when they are used, and say so when they are damaged."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing
from zarr.storage import LocalStore, StorePath

from probe.errors import DamagedFile
from probe.store.manifest import ARRAYS, REMEDY
from probe.store.metadata import ArrayMeta
from probe.store.plain import restore

FAULTS = (ValueError, RuntimeError, TypeError, IndexError, KeyError, OSError, MemoryError)  # of the codecs and the disk


class StoredArray(BackendArray):
    """One array of a trace folder. `check` raises DamagedFile when its files are not those that were opened."""

    def __init__(self, folder: Path, path: str, *, meta: ArrayMeta, check: Callable[[], None]) -> None:
        self.folder, self.path, self.check = folder, path, check
        self.shape, self.dtype, self.said = tuple(meta.shape), meta.dtype, meta.model_dump()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        self.check()  # zarr takes a missing file for an empty one
        try:
            store = LocalStore(self.folder / ARRAYS, read_only=True)
            array = zarr.Array.from_dict(StorePath(store, self.path), self.said)  # as checked; not read anew
            return np.asarray(array.oindex[key])
        except FAULTS as error:
            raise DamagedFile(f"{self.folder}: the array {self.path} cannot be read ({error}). {REMEDY}") from error


class NodeBackend(BackendEntrypoint):
    """Lets xarray wrap a node's arrays as it wraps every file: lazy, cached once read, safe to write to."""

    open_dataset_parameters = ("filename_or_obj", "drop_variables", "variables", "coordinates", "attrs")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        variables: Mapping[str, xr.Variable] | None = None,
        coordinates: Iterable[str] = (),
        attrs: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """A Dataset of these variables."""
        found = xr.Dataset(variables or {}, attrs=attrs).drop_vars(drop_variables or [])
        return found.set_coords(list(coordinates))


def stored(array: StoredArray, meta: ArrayMeta) -> xr.Variable:
    """An array as a lazy variable with its axes and attributes."""
    return xr.Variable(meta.dimension_names, indexing.LazilyIndexedArray(array), restore(meta.attributes))
