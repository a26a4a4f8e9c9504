"""What is saved comes back equal, lazily, and without torch."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from probe.errors import BadInput, DamagedFile
from probe.store import open_trace, verify, write_trace
from probe.store.arrays import CHUNK, SHARD, layout
from probe.trace import Trace
from tests.factories import make_trace


def odd_trace() -> Trace:
    """Everything that a tree may hold beyond what the recorder writes today."""
    coords = {
        "word": ("word", ["cat", 'b"al\nloon', "кот🐈", "<b>"], {"note": "as typed"}),
        "place": ((), "here"),
        "depth": ("word", np.array([1, 2, 3, 4], dtype=np.int16)),
    }
    arrays = {
        "flag": ("word", np.array([True, False, True, False])),
        "hole": (("word", "x"), np.full((4, 3), np.nan, dtype=np.float64), {"limit": math.inf, "range": [0.5, None]}),
        "empty": (("nothing", "x"), np.zeros((0, 3), dtype=np.uint8)),
        "single": ((), np.float32(2.5)),
        "big": ("word", np.array([0, 2**63, 1, 2**64 - 1], dtype=np.uint64)),
        "swapped": ("word", np.array([1.0, 2.0, 3.0, 4.0], dtype=">f4")),
    }
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"root": 1}), "/a/mid_block.0": xr.Dataset(arrays, coords)})
    tree["a"].attrs["units"] = {"nested": [1, "two", -math.inf]}
    pictures = (Image.new("L", (3, 5), 7), Image.new("RGBA", (2, 2), (1, 2, 3, 4)))
    base = make_trace()
    run = base.run.model_copy(update={"scheduler": {"lambda_min_clipped": -math.inf, "betas": (0.1, 0.2)}})
    return replace(base, run=run, tree=tree, pictures=pictures, extra={"note": ["é", None, {"x": math.inf}]})


TRACES = {
    "default": make_trace(),
    "batch": make_trace(steps=3, images=2, branches=("cond", "uncond"), seed=1),
    "long": make_trace(steps=30, grids=((64, 64),), words=("a", "b", "c", "d", "e", "f", "g", "h", "i")),
    "negative": replace(make_trace(), negative_words=make_trace().words, negative_tokens=make_trace().tokens[:3]),
    "odd": odd_trace(),
    "bare": replace(make_trace(), tree=xr.DataTree(), pictures=(), words=(), tokens=(), sites=()),
}


@pytest.mark.parametrize("name", TRACES)
def test_comes_back_equal(tmp_path: Path, name: str) -> None:
    trace = TRACES[name]
    trace.save(tmp_path / "t")
    found = Trace.open(tmp_path / "t")
    assert verify(tmp_path / "t").ok
    assert found.equals(trace) and trace.equals(found)
    for node in trace.tree.subtree:
        for key, variable in node.to_dataset(inherit=False).variables.items():
            twin = found.tree[node.path].to_dataset(inherit=False).variables[key]
            assert twin.dtype.kind == variable.dtype.kind and twin.attrs.keys() == variable.attrs.keys()
            assert twin.dtype.kind == "U" or twin.dtype == variable.dtype.newbyteorder("=")


def test_equality_notices_every_part() -> None:
    trace = make_trace()
    changed = trace.tree.copy(deep=True)
    changed["latents"]["latents"].attrs["units"] = "other"
    others = [
        replace(trace, run=trace.run.model_copy(update={"seed": 9})),
        replace(trace, words=trace.words[:1]),
        replace(trace, negative_words=trace.words[:1]),
        replace(trace, negative_tokens=trace.tokens[:1]),
        replace(trace, extra={"a": 1}),
        replace(trace, tree=changed),
        replace(trace, pictures=(Image.new("RGB", (128, 128)),)),
        make_trace(seed=5),
    ]
    assert trace.equals(make_trace()) and not any(trace.equals(other) for other in others)


def test_a_trace_without_a_negative_prompt_has_the_tables_that_it_always_had(tmp_path: Path) -> None:
    make_trace().save(tmp_path / "t")
    assert sorted(p.name for p in (tmp_path / "t/tables").iterdir()) == [
        "sites.parquet",
        "tokens.parquet",
        "words.parquet",
    ]


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    make_trace().save(tmp_path / "one")
    open_trace(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()


def test_arrays_are_read_when_used(tmp_path: Path) -> None:
    trace = make_trace()
    trace.save(tmp_path / "t")
    found = open_trace(tmp_path / "t")
    few = found.sel(word="cat", step=slice(0, 2))
    for shard in (tmp_path / "t/arrays.zarr/attention/16x16/attention").glob("c.*"):
        shard.unlink()
    assert "attention (site 2, step 2" in repr(few) and found.nbytes == trace.nbytes
    with pytest.raises(DamagedFile, match="is missing"):
        few.node("attention/16x16")["attention"].load()
    assert np.array_equal(found.node("latents")["latents"], trace.node("latents")["latents"])


def test_what_was_read_once_is_kept(tmp_path: Path) -> None:
    make_trace().save(tmp_path / "t")
    found = open_trace(tmp_path / "t")
    first = found.node("latents")["latents"].values
    shutil.rmtree(tmp_path / "t")
    assert np.array_equal(found.node("latents")["latents"].values, first)


def test_a_plain_zarr_reader_gets_the_numbers(tmp_path: Path) -> None:
    trace = make_trace()
    trace.save(tmp_path / "t")
    tree = xr.open_datatree(tmp_path / "t" / "arrays.zarr", engine="zarr", consolidated=False)
    for path in ("attention/8x8/attention", "guidance/cosine_previous", "thumbnails/thumbnails"):
        assert tree[path].dims == trace.tree[path].dims
        assert np.array_equal(tree[path].values, trace.tree[path].values, equal_nan=tree[path].dtype.kind == "f")


def test_arrays_are_sharded_with_checksums_and_nan_fill(tmp_path: Path) -> None:
    make_trace().save(tmp_path / "t")
    meta = json.loads((tmp_path / "t/arrays.zarr/attention/16x16/attention/zarr.json").read_text())
    [shard] = meta["codecs"]
    assert (meta["zarr_format"], meta["fill_value"], shard["name"]) == (3, "NaN", "sharding_indexed")
    assert [codec["name"] for codec in shard["configuration"]["codecs"]] == ["bytes", "blosc", "crc32c"]
    blosc = shard["configuration"]["codecs"][1]["configuration"]
    assert (blosc["cname"], blosc["shuffle"]) == ("zstd", "bitshuffle")
    assert [codec["name"] for codec in shard["configuration"]["index_codecs"]] == ["bytes", "crc32c"]


def test_the_manifest_names_every_file_with_its_hash(tmp_path: Path) -> None:
    make_trace().save(tmp_path / "t")
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    files = {
        p.relative_to(tmp_path / "t").as_posix(): p.read_bytes() for p in (tmp_path / "t").rglob("*") if p.is_file()
    }
    del files["manifest.json"]
    hashes = {path: [len(data), hashlib.blake2b(data, digest_size=32).hexdigest()] for path, data in files.items()}
    assert {path: [entry["size"], entry["blake2b"]] for path, entry in manifest["files"].items()} == hashes
    assert manifest["run"]["prompts"] == ["a cat and a balloon"] and manifest["schema_version"] == 1
    assert Image.open(tmp_path / "t/pictures/0.png").text == {"probe:run": manifest["id"]}


@given(
    st.fixed_dictionaries(
        {"site": st.integers(0, 40), "step": st.integers(0, 120), "word": st.integers(0, 90), "y": st.integers(0, 128)}
    ),
    st.sampled_from([1, 2, 4, 8]),
)
def test_layout_covers_the_array_in_whole_chunks(sizes: dict[str, int], itemsize: int) -> None:
    chunk, shard = layout(sizes, itemsize)
    rows = list(zip(sizes.values(), chunk, shard, strict=True))
    assert all(0 < part <= whole and whole % part == 0 for _, part, whole in rows)
    assert all(whole >= size for (_, size), whole in zip(sizes.items(), shard, strict=True) if _ != "step")
    small = itemsize * math.prod(max(1, size) for size in sizes.values()) <= CHUNK
    assert not small or list(chunk) == [max(1, size) for size in sizes.values()]
    one_step = itemsize * math.prod(shard) // shard[1]
    assert itemsize * math.prod(shard) <= max(SHARD, one_step * chunk[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": {"model": object()}}, r"extra\.model holds a object"),
        ({"extra": {3: "three"}}, "has the key 3, expected text"),
        ({"pictures": (Image.new("CMYK", (2, 2)),)}, "mode 'CMYK'"),
        ({"tree": xr.DataTree(xr.Dataset({"a": ("x", np.array([object()]))}))}, "array of object"),
        ({"tree": xr.DataTree(xr.Dataset({"a": ("x", np.array([1j]))}))}, "array of complex128"),
        ({"tree": xr.DataTree(xr.Dataset({"a": ("x", np.array(["text"]))}))}, "holds text: only coordinates may"),
        ({"tree": xr.DataTree(xr.Dataset({"a b": ("x", np.zeros(2))}))}, "cannot be a file"),
        ({"tree": xr.DataTree(xr.Dataset({"..": ("x", np.zeros(2))}))}, "cannot be a file"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        write_trace(replace(make_trace(), **change), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


BLOCKED = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "diffusers", "transformers", "matplotlib", "streamlit"}:
            raise ImportError(f"{name} is out of reach")

sys.meta_path.insert(0, Wall())
import probe

trace = probe.open(sys.argv[1])
assert probe.verify(sys.argv[1]).ok
print(float(trace.sel(word="cat").node("attention/8x8")["attention"].sum()), trace.pictures[0].size)
"""


def test_reads_without_torch(tmp_path: Path) -> None:
    trace = make_trace()
    trace.save(tmp_path / "t")
    done = subprocess.run([sys.executable, "-c", BLOCKED, tmp_path / "t"], capture_output=True, text=True, check=False)
    total = float(trace.sel(word="cat").node("attention/8x8")["attention"].sum())
    assert done.stdout.split(" ", 1) == [str(total), "(128, 128)\n"], done.stderr
