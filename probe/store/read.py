"""A folder becomes a trace again; its arrays are read when they are used."""

import posixpath
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr
from PIL import Image
from pydantic import BaseModel

from probe.errors import DamagedFile, OverBudget
from probe.site import Site
from probe.store.check import check_sizes, differences, read_checked
from probe.store.lazy import NodeBackend, StoredArray, stored
from probe.store.manifest import ARRAYS, REMEDY, Entry, Manifest, Node, load
from probe.store.metadata import ArrayMeta, GroupMeta, parse_meta
from probe.store.pictures import decode_picture
from probe.store.plain import restore
from probe.store.tables import decode_table
from probe.trace import Trace
from probe.words import Token, Word

BUDGET = 16 * 2**30  # bytes that the arrays of a trace may declare
SMALL = 2**28  # bytes of a file that is read whole
ENTRIES = 2**20  # of an axis; they are read at once
Row = TypeVar("Row", bound=BaseModel)


def open_trace(folder: str | Path, *, budget: int = BUDGET) -> Trace:
    """Open a saved trace without reading its arrays; needs neither torch nor the model.

    Raises DamagedFile when a file is missing, damaged or foreign, and OverBudget when the arrays would fill more than
    `budget` bytes. A damaged array that was not noticed by then raises DamagedFile when it is read.
    """
    root = Path(folder)
    manifest = load(root)
    _check_files(root, manifest)
    metas = {path: parse_meta(_small(root, path, manifest), path) for path in manifest.files if _is_meta(path)}
    _check_budget(root, metas, budget)
    return Trace(
        manifest.run,
        words=_table(root, manifest, Word),
        tokens=_table(root, manifest, Token),
        sites=_table(root, manifest, Site),
        tree=_tree(root, manifest, metas),
        pictures=_pictures(root, manifest),
        extra=manifest.extra,
        negative_words=_table(root, manifest, Word, "negative_"),
        negative_tokens=_table(root, manifest, Token, "negative_"),
    )


def _check_files(root: Path, manifest: Manifest) -> None:
    for path, what in differences(root, manifest.files, strays=False).items():
        raise DamagedFile(f"{root / path} {what}. {REMEDY}")


def _check_budget(root: Path, metas: Mapping[str, GroupMeta | ArrayMeta], budget: int) -> None:
    total = sum(meta.nbytes for meta in metas.values() if isinstance(meta, ArrayMeta))
    if total > budget:
        raise OverBudget(
            f"the arrays of {root} declare {total:,} bytes, the budget is {budget:,}: "
            "open it with a larger budget only if you trust where it comes from"
        )


def _is_meta(path: str) -> bool:
    return path.startswith(ARRAYS) and posixpath.basename(path) == "zarr.json"


def _small(root: Path, path: str, manifest: Manifest) -> bytes:
    entry = manifest.files.get(path)
    if entry is None:
        raise DamagedFile(f"{root} has no {path}. {REMEDY}")
    if entry.size > SMALL:
        raise DamagedFile(f"{root / path} has {entry.size:,} bytes, at most {SMALL:,} are read: do not trust it")
    return read_checked(root, path, entry)


def _table(root: Path, manifest: Manifest, kind: type[Row], which: str = "") -> tuple[Row, ...]:
    """The rows of a table; those of a negative prompt are not there where it has none."""
    path = f"tables/{which}{kind.__name__.lower()}s.parquet"
    if which and path not in manifest.files:
        return ()
    return decode_table(_small(root, path, manifest), kind, path)


def _pictures(root: Path, manifest: Manifest) -> tuple[Image.Image, ...]:
    paths = sorted((p for p in manifest.files if p.startswith("pictures/")), key=lambda p: int(Path(p).stem))
    return tuple(decode_picture(_small(root, path, manifest), path) for path in paths)


def _tree(root: Path, manifest: Manifest, metas: Mapping[str, GroupMeta | ArrayMeta]) -> xr.DataTree:
    groups = {"/" + posixpath.dirname(p)[len(ARRAYS) + 1 :] for p, meta in metas.items() if isinstance(meta, GroupMeta)}
    if groups != set(manifest.nodes):
        raise DamagedFile(f"{root} has the nodes {sorted(groups)}, expected {sorted(manifest.nodes)}. {REMEDY}")
    try:
        return xr.DataTree.from_dict(_datasets(root, manifest, metas))
    except ValueError as error:
        if isinstance(error, DamagedFile):
            raise
        raise DamagedFile(f"the arrays of {root} do not fit together ({error}). {REMEDY}") from error


def _datasets(root: Path, manifest: Manifest, metas: Mapping[str, GroupMeta | ArrayMeta]) -> dict[str, xr.Dataset]:
    """The nodes, by their path. A recording has hundreds of files, so each is looked at once and not for each node."""
    files, arrays = _by_folder(manifest.files), defaultdict[str, dict[str, xr.Variable]](dict)
    for array, meta in ((posixpath.dirname(file), meta) for file, meta in metas.items()):
        if isinstance(meta, ArrayMeta):
            place, name = posixpath.split(array)
            arrays[place][name] = _variable(root, array, meta=meta, files=files[array])
    found: dict[str, xr.Dataset] = {}
    for path, node in manifest.nodes.items():
        place = posixpath.join(ARRAYS, path.strip("/")).rstrip("/")
        group = metas[f"{place}/zarr.json"]
        options = {"variables": arrays[place] | _texts(node), "coordinates": [*node.coordinates, *node.names]}
        attrs = restore(group.attributes)
        found[path] = xr.open_dataset(str(root / place), engine=NodeBackend, attrs=attrs, **options)
    return found


def _by_folder(files: Mapping[str, Entry]) -> Mapping[str, dict[str, Entry]]:
    """The files of each folder, and of the folders in it."""
    found = defaultdict[str, dict[str, Entry]](dict)
    for path, entry in files.items():
        folder = posixpath.dirname(path)
        while folder:
            found[folder][path] = entry
            folder = posixpath.dirname(folder)
    return found


def _variable(root: Path, array: str, *, meta: ArrayMeta, files: Mapping[str, Entry]) -> xr.Variable:
    if [posixpath.basename(array)] == meta.dimension_names and meta.shape[0] > ENTRIES:
        raise DamagedFile(
            f"{root / array} has {meta.shape[0]:,} entries, an axis has at most {ENTRIES:,}: do not trust it"
        )
    check = partial(check_sizes, root, files)
    return stored(StoredArray(root, array[len(ARRAYS) + 1 :], meta=meta, check=check), meta)


def _texts(node: Node) -> dict[str, xr.Variable]:
    texts = node.names.items()
    return {name: xr.Variable(text.dims, np.array(text.values, dtype=str), text.attrs) for name, text in texts}
