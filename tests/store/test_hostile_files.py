"""A trace from a stranger leads nowhere else, and its tables and pictures are looked at before they are read."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from probe.store import verify
from tests.store.hostile import forge, refused, reseal

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
    refused(folder, "which is not a file of a trace")
    assert not verify(folder).ok


@pytest.mark.parametrize(
    "path", ["manifest.json", "tables/words.parquet", "pictures", "arrays.zarr/latents/latents/c.0.0.0.0.0"]
)
def test_links_are_not_followed(folder: Path, path: str) -> None:
    (folder / path).rename(folder.parent / "elsewhere")
    (folder / path).symlink_to(folder.parent / "elsewhere")
    refused(folder, "is a link|not a finished trace")
    assert not verify(folder).ok


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", ["manifest.json", "pictures/0.png"])
def test_a_pipe_is_not_waited_for(folder: Path, path: str) -> None:
    (folder / path).unlink()
    os.mkfifo(folder / path)
    refused(folder, "link or a device|not a finished trace")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, "not the manifest of a trace"),
        ({"schema_version": 99}, "has schema version 99, this probe reads 1: upgrade"),
        ({"run": {}}, "not the manifest of a trace"),
        ({"surprise": 1}, "not the manifest of a trace"),
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
        ({"site": {"dims": ["site"], "values": [1]}}, "not the manifest of a trace"),
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
        (png(4, 4), "not a readable PNG"),
        (picture("PNG")[:45], "not a readable PNG"),
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
        (b"", "is not a table of Words"),
        (b"PAR1" + b"\xff" * 64 + b"PAR1", "is not a table of Words"),
        (table({"label": ["cat"]}), "is not a table of Words"),
        (table({"label": [1]}), "has the columns"),
        (table({"evil": ["cat"]}), "has the columns"),
        (table({"start": pa.array([0] * 2_000_000)}), "2,000,000 rows"),
    ],
)
def test_hostile_tables(folder: Path, data: bytes, match: str) -> None:
    forge(folder, "tables/words.parquet", data)
    refused(folder, match)
