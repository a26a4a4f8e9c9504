"""A trace from a stranger runs no code, follows no link, and cannot fill the memory."""

import contextlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.errors import DamagedFile, OverBudget
from probe.store import open_trace
from probe.store.manifest import digest
from probe.store.plain import canonical
from tests.store.hostile import forge, refused, reseal

ARRAY = "arrays.zarr/latents/latents/zarr.json"


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
        (b'{"zarr_format": 3, "zarr_format": 3, "node_type": "group"}', "occurs twice"),
        (b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": NaN}}', "NaN is not a JSON number"),
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
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
