"""A trace from a stranger runs no code, follows no link, and cannot fill the memory."""

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from probe.errors import DamagedFile, OverBudget
from probe.store import open_trace, verify
from probe.store.manifest import digest
from probe.store.plain import canonical
from tests.factories import make_trace

ARRAY = "arrays.zarr/latents/latents/zarr.json"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(steps=2, grids=((8, 8),), size=32).save(tmp_path_factory.mktemp("hostile") / "t")


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "t"))


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and seal it anew, as a stranger can."""
    body = json.loads((folder / "manifest.json").read_bytes())
    change(body)
    del body["seal"]
    (folder / "manifest.json").write_bytes(canonical({**body, "seal": digest(canonical(body))}))


def forge(folder: Path, path: str, data: bytes) -> None:
    """Replace a file and make the manifest agree."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    reseal(folder, lambda body: body["files"].update({path: {"size": len(data), "blake2b": digest(data)}}))


def refused(folder: Path, match: str) -> None:
    """Opening and reading raise one of the two errors, at once and within 64 MB."""
    tracemalloc.start()
    try:
        with pytest.raises((DamagedFile, OverBudget), match=match):
            for node in open_trace(folder).tree.subtree:
                node.load()
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


def edited(folder: Path, **changes: Any) -> bytes:
    return json.dumps(json.loads((folder / ARRAY).read_bytes()) | changes).encode()


PICKLE = {"name": "numcodecs.pickle", "configuration": {"id": "pickle"}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
NESTED = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": [1] * 5, "codecs": [BYTES], "index_codecs": [BYTES]},
}


def sharded(*codecs: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    inner = {"chunk_shape": [3, 1, 4, 4, 4], "codecs": list(codecs), "index_codecs": [BYTES], **more}
    return [{"name": "sharding_indexed", "configuration": inner}]


def grid(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"codecs": [PICKLE]}, "not written by `save`"),
        ({"codecs": [BYTES, PICKLE]}, "not written by `save`"),
        ({"codecs": sharded(PICKLE)}, "not written by `save`"),
        ({"codecs": sharded(BYTES, index_codecs=[PICKLE])}, "not written by `save`"),
        ({"codecs": sharded(NESTED)}, "not written by `save`"),
        ({"codecs": [BYTES, {"name": "gzip", "configuration": {"level": 1}}]}, "gzip"),
        ({"codecs": []}, "cannot be read"),
        ({"codecs": [BYTES, {"name": "blosc", "configuration": {"cname": "no such"}}]}, "cannot be read"),
        ({"data_type": "object"}, "'object' at data_type"),
        ({"data_type": "string"}, "'string' at data_type"),
        ({"data_type": {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}}, "data_type"),
        ({"zarr_format": 2}, "zarr_format 2, a trace has 3"),
        ({"node_type": "other"}, "node_type"),
        (
            {"shape": [10**12, 1, 4, 4, 4], "chunk_grid": grid(10**12, 1, 4, 4, 4), "codecs": [BYTES]},
            "declare .* bytes, the budget is",
        ),
        ({"shape": [10**12, 1, 4, 4, 4]}, "pieces, at most"),
        ({"chunk_grid": grid(10**9, 10**9, 4, 4, 4), "codecs": [BYTES]}, "budget"),
        ({"shape": [-3, 1, 4, 4, 4]}, "do not trust it"),
        ({"shape": [3.0, 1, 4, 4, 4]}, "at shape"),
        ({"shape": [True, 1, 4, 4, 4]}, "at shape"),
        ({"shape": [3, 1, 4, 4]}, "another rank"),
        ({"shape": [1] * 99}, "at shape"),
        ({"shape": [9, 1, 4, 4, 4]}, "do not fit together"),
        ({"chunk_grid": grid(0, 1, 4, 4, 4)}, "chunk_shape"),
        ({"dimension_names": ["y"] * 5}, "names an axis twice"),
        ({"storage_transformers": [{"name": "evil"}]}, "storage_transformers"),
        ({"must_understand": {"name": "evil"}}, "must_understand"),
    ],
)
def test_hostile_arrays(folder: Path, changes: dict[str, Any], match: str) -> None:
    forge(folder, ARRAY, edited(folder, **changes))
    refused(folder, match)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b'{"zarr_format": 3, "zarr_format": 3, "node_type": "group"}', "stands there twice"),
        (b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": NaN}}', "NaN is no JSON number"),
        (b"[" * 200_000, "not readable JSON"),
        (b"[]", "holds a list"),
        (b"\xff\xfe", "not readable JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not readable JSON"),
        (b"", "not readable JSON"),
    ],
)
def test_hostile_json(folder: Path, data: bytes, match: str) -> None:
    forge(folder, ARRAY, data)
    refused(folder, match)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else range(len(value))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def survives(folder: Path) -> None:
    """Opening and reading either works or raises one of the two errors."""
    with contextlib.suppress(DamagedFile, OverBudget):
        for node in open_trace(folder, budget=2**28).tree.subtree:
            node.load()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_of_the_metadata_is_survived(folder: Path, data: st.DataObject) -> None:
    for path in (ARRAY, "arrays.zarr/latents/time/zarr.json", "arrays.zarr/latents/zarr.json"):
        old = (folder / path).read_bytes()
        value = json.loads(old)
        inside, key = data.draw(st.sampled_from(places(value)))
        inside[key] = data.draw(JSON)
        forge(folder, path, json.dumps(value).encode())
        survives(folder)
        forge(folder, path, old)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_of_the_manifest_is_survived(folder: Path, data: st.DataObject) -> None:
    old = (folder / "manifest.json").read_bytes()
    value = json.loads(old)
    del value["seal"]
    spots = [(inside, key) for inside, key in places(value) if key not in ("size", "blake2b")]
    inside, key = data.draw(st.sampled_from(spots))
    inside[key] = data.draw(JSON)
    (folder / "manifest.json").write_bytes(canonical({**value, "seal": digest(canonical(value))}))
    survives(folder)
    (folder / "manifest.json").write_bytes(old)


def test_an_axis_of_a_billion_entries(folder: Path) -> None:
    path = "arrays.zarr/latents/time/zarr.json"
    meta = json.loads((folder / path).read_bytes()) | {"shape": [10**9], "chunk_grid": grid(10**9)}
    forge(folder, path, json.dumps(meta).encode())
    refused(folder, "1,000,000,000 entries|budget|pieces")


def test_the_old_format_is_not_looked_at(folder: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "executed"),)

    old = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C"}
    codecs = {"compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}
    (folder / ARRAY).unlink()
    reseal(folder, lambda body: body["files"].pop(ARRAY))
    forge(folder, "arrays.zarr/latents/latents/0", pickle.dumps(Payload()))
    (folder / "arrays.zarr/latents/latents/.zarray").write_text(json.dumps(old | codecs))
    refused(folder, "zarray is not in the manifest")
    assert not (folder / "executed").exists()


def test_the_budget_can_be_chosen(clean: Path) -> None:
    with pytest.raises(OverBudget, match="open it with a larger budget only if you trust"):
        open_trace(clean, budget=1000)
    assert open_trace(clean, budget=10**6).nbytes > 1000


PATHS = [
    "../outside",
    "/etc/passwd",
    "C:\\boot.ini",
    "arrays.zarr/../../outside",
    "arrays.zarr/./zarr.json",
    "arrays.zarr//zarr.json",
    "arrays.zarr\\zarr.json",
    "pictures/%2e%2e/0.png",
    "pictures/../0.png",
    "tables/words.parquet\0",
    "tables/other.parquet",
    "manifest.json",
    "arrays.zarr/.hidden",
    "~/x",
    "//server/share",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_stay_inside(folder: Path, path: str) -> None:
    reseal(folder, lambda body: body["files"].update({path: {"size": 1, "blake2b": "0" * 64}}))
    refused(folder, "which is no file of a trace")
    assert not verify(folder).ok


@pytest.mark.parametrize(
    "path", ["manifest.json", "tables/words.parquet", "pictures", "arrays.zarr/latents/latents/c.0.0.0.0.0"]
)
def test_links_are_not_followed(folder: Path, path: str) -> None:
    (folder / path).rename(folder.parent / "elsewhere")
    (folder / path).symlink_to(folder.parent / "elsewhere")
    refused(folder, "is a link|no finished trace")
    assert not verify(folder).ok


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", ["manifest.json", "pictures/0.png"])
def test_a_pipe_is_not_waited_for(folder: Path, path: str) -> None:
    (folder / path).unlink()
    os.mkfifo(folder / path)
    refused(folder, "link or a device|no finished trace")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, "no manifest of a trace"),
        ({"schema_version": 99}, "has schema version 99, this probe reads 1: upgrade"),
        ({"run": {}}, "no manifest of a trace"),
        ({"surprise": 1}, "no manifest of a trace"),
        ({"nodes": {"/": {}, "/other": {}}}, "has the nodes"),
        ({"files": {}}, "is not in the manifest"),
    ],
)
def test_hostile_manifests(folder: Path, change: dict[str, Any], match: str) -> None:
    reseal(folder, lambda body: body.update(change))
    refused(folder, match)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({"site": {"dims": ["site"], "values": ["only one"]}}, "do not fit together"),
        ({"site": {"dims": ["site", "site"], "values": ["a"]}}, "do not fit together"),
        ({"nowhere/else": {"dims": ["q"], "values": ["a"]}}, "do not fit together|nodes"),
        ({"site": {"dims": ["site"], "values": [1]}}, "no manifest of a trace"),
    ],
)
def test_hostile_names(folder: Path, names: dict[str, Any], match: str) -> None:
    reseal(folder, lambda body: body["nodes"]["/attention/8x8"].update(names=names))
    refused(folder, match)


def test_coordinates_that_are_not_there(folder: Path) -> None:
    reseal(folder, lambda body: body["nodes"]["/latents"].update(coordinates=["ghost"]))
    refused(folder, "do not fit together")


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def picture(kind: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 4)).save(sink, format=kind)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (png(60_000, 60_000), "60000 x 60000 pixels, too many"),
        (png(0, 10), "0 x 10 pixels"),
        (png(4, 4), "no readable PNG"),
        (picture("PNG")[:45], "no readable PNG"),
        (picture("JPEG"), "does not begin like a PNG"),
        (picture("GIF"), "does not begin like a PNG"),
        (b"", "does not begin like a PNG"),
    ],
)
def test_hostile_pictures(folder: Path, data: bytes, match: str) -> None:
    forge(folder, "pictures/0.png", data)
    refused(folder, match)


def table(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "no table of Words"),
        (b"PAR1" + b"\xff" * 64 + b"PAR1", "no table of Words"),
        (table({"label": ["cat"]}), "no table of Words"),
        (table({"label": [1]}), "has the columns"),
        (table({"evil": ["cat"]}), "has the columns"),
        (table({"start": pa.array([0] * 2_000_000)}), "2,000,000 rows"),
    ],
)
def test_hostile_tables(folder: Path, data: bytes, match: str) -> None:
    forge(folder, "tables/words.parquet", data)
    refused(folder, match)
