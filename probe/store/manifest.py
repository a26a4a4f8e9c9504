"""The manifest: what a trace folder holds, and the hash of each of its files."""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from probe.errors import DamagedFile
from probe.store.plain import canonical, parse, plain, restore
from probe.trace import Run

SCHEMA = 1
NAME = "manifest.json"
ARRAYS = "arrays.zarr"
LIMIT = 64 * 2**20  # bytes of a manifest
REMEDY = "The trace is damaged: copy it again from where it came, or record it anew."

_PART = r"(?!\.)[A-Za-z0-9_.-]{1,200}"
_LAYOUT = re.compile(
    rf"arrays\.zarr(/{_PART})+|tables/((negative_)?(words|tokens)|sites)\.parquet|pictures/\d{{1,4}}\.png"
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Model):
    """One file: its size in bytes and its BLAKE2b hash."""

    size: int = Field(ge=0)
    blake2b: str = Field(pattern="^[0-9a-f]{64}$")


class Names(_Model):
    """A coordinate made of text."""

    dims: tuple[str, ...]
    values: str | tuple[str, ...]
    attrs: dict[str, Any] = {}


class Node(_Model):
    """One node of the tree: its text coordinates, and which of its arrays are coordinates."""

    names: dict[str, Names] = {}
    coordinates: tuple[str, ...] = ()


class Manifest(_Model):
    """Everything about a trace that is neither an array, a table nor a picture."""

    format: Literal["probe trace"] = "probe trace"
    schema_version: Literal[1] = SCHEMA
    id: str
    run: Run
    nodes: dict[str, Node]
    extra: dict[str, Any] = {}
    files: dict[str, Entry]


def digest(data: bytes, size: int = 32) -> str:
    """BLAKE2b hash as hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def run_id(run: Run) -> str:
    """Sixteen hexadecimal digits that name a run; equal runs have equal ids."""
    return digest(canonical(plain(run.model_dump(), "run")), 8)


def belongs(path: str) -> bool:
    """Whether a relative path can be a file of a trace."""
    return path == NAME or _LAYOUT.fullmatch(path) is not None


def dump(manifest: Manifest) -> bytes:
    """The manifest as bytes, sealed with the hash of its own content."""
    body = plain(manifest.model_dump(), "trace")
    return canonical({**body, "seal": digest(canonical(body))})


def load(folder: Path) -> Manifest:
    """The manifest of a trace folder. Raises DamagedFile when it is missing, damaged, foreign or too new."""
    data = _read(folder)
    body = parse(data, NAME)
    _check_version(body)
    seal = body.pop("seal", None)
    if seal != digest(canonical(body)) or canonical({**body, "seal": seal}) != data:
        raise DamagedFile(f"{folder / NAME} does not match its own seal. {REMEDY}")
    try:
        manifest = Manifest.model_validate(restore(body))
    except ValidationError as error:
        raise DamagedFile(f"{folder / NAME} is not the manifest of a trace: {error}. {REMEDY}") from error
    foreign = [path for path in manifest.files if not belongs(path) or path == NAME]
    if foreign:
        raise DamagedFile(
            f"{folder / NAME} lists {foreign[0]!r}, which is not a file of a trace. Do not trust this folder."
        )
    return manifest


def _read(folder: Path) -> bytes:
    path = folder / NAME
    try:
        if path.is_symlink() or not path.is_file():
            raise DamagedFile(f"{folder} holds no {NAME}, so it is not a finished trace: give a folder of `Trace.save`")
        if path.stat().st_size > LIMIT:
            raise DamagedFile(f"{path} has {path.stat().st_size:,} bytes, at most {LIMIT:,} were expected. {REMEDY}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, DamagedFile):
            raise
        raise DamagedFile(f"cannot read {str(path)!r} ({error}): check the path and its permissions") from error


def _check_version(body: dict[str, Any]) -> None:
    version = body.get("schema_version")
    if isinstance(version, int) and version > SCHEMA:
        raise DamagedFile(
            f"this trace has schema version {version}, this probe reads {SCHEMA}: upgrade diffusion-probe"
        )
