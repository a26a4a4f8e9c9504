"""A trace becomes a folder, all or nothing."""

from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from probe.errors import BadInput, OutputError
from probe.store.arrays import encode_array, encode_group, is_text
from probe.store.folder import new_folder
from probe.store.manifest import ARRAYS, NAME, Entry, Manifest, Names, Node, belongs, digest, dump, run_id
from probe.store.pictures import encode_picture
from probe.store.plain import plain
from probe.store.tables import NEGATIVE, TABLES, encode_table
from probe.trace import Trace


def write_trace(trace: Trace, folder: str | Path, *, exist_ok: bool = False) -> Path:
    """Save a trace as a new folder and return its path; with `exist_ok` it replaces an older trace.

    Raises OutputError when the folder exists or cannot be written, BadInput when the trace holds what a file cannot;
    in both cases nothing is left behind.
    """
    target = Path(folder)
    if "\0" in str(folder) or target.name in ("", ".."):
        raise OutputError(f"{str(folder)!r} is not a valid name for a folder: choose another")
    extra = plain(trace.extra, "extra")
    manifest = Manifest(id=run_id(trace.run), run=trace.run, nodes=_nodes(trace.tree), extra=extra, files={})
    with new_folder(target, replaces=_only_a_trace if exist_ok else None) as hidden:
        files = {path: _put(hidden, path, data) for path, data in _files(trace, manifest.id)}
        (hidden / NAME).write_bytes(dump(manifest.model_copy(update={"files": files})))
    return target


def _files(trace: Trace, run: str) -> Iterator[tuple[str, bytes]]:
    for name, kind in (TABLES | NEGATIVE).items():
        if name in TABLES or getattr(trace, name):
            yield f"tables/{name}.parquet", encode_table(getattr(trace, name), kind)
    for i, picture in enumerate(trace.pictures):
        yield f"pictures/{i}.png", encode_picture(picture, run)
    for node in trace.tree.subtree:
        place = f"{ARRAYS}/{node.path.strip('/')}".rstrip("/")
        dataset = node.to_dataset(inherit=False)
        yield from ((f"{place}/{path}", data) for path, data in encode_group(dataset.attrs))
        for name, variable in dataset.variables.items():
            if not is_text(variable):
                yield from ((f"{place}/{name}/{path}", data) for path, data in encode_array(variable))


def _nodes(tree: xr.DataTree) -> dict[str, Node]:
    return {node.path: _node(node.to_dataset(inherit=False)) for node in tree.subtree}


def _node(dataset: xr.Dataset) -> Node:
    text = {str(name): _names(variable) for name, variable in dataset.variables.items() if is_text(variable)}
    stray = [name for name in text if name not in dataset.coords]
    if stray:
        raise BadInput(f"the array {stray[0]!r} holds text: only coordinates may, keep it in `extra` instead")
    return Node(names=text, coordinates=tuple(str(name) for name in dataset.coords if name not in text))


def _names(variable: xr.Variable) -> Names:
    if variable.ndim > 1:
        raise BadInput(f"a text coordinate has the dims {variable.dims}, expected one at most")
    attrs = plain(variable.attrs, "attrs")
    return Names(dims=tuple(str(dim) for dim in variable.dims), values=variable.values.tolist(), attrs=attrs)


def _put(folder: Path, path: str, data: bytes) -> Entry:
    if not belongs(path):
        raise BadInput(f"{path!r} cannot be a file: name nodes and arrays with letters, digits, '_', '.' and '-'")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    return Entry(size=len(data), blake2b=digest(data))


def _only_a_trace(folder: Path) -> None:
    paths = [
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    ]
    foreign = [path for path in paths if not belongs(path)]
    if foreign:
        raise OutputError(
            f"{folder} holds {foreign[0]!r}, which is not part of a trace: it is not replaced, move it first"
        )
