"""What a study leaves on disk. Its folder holds

resolved.json           the study with nothing left open
jobs/ab/abcd.../        one folder a job, by its key: it appears whole or not at all
    manifest.json       the job's row of the table, and sizes and hashes of what else there is, under a seal
    picture.png         } as asked for
    trace/              }
running/abcd...         jobs that are at work; one that stays behind tells that its process died
table.parquet           one row a job, written when a run ends

A job is done if, and only if, its manifest verifies. So nothing else has to be kept in step, and a study goes on after
anything, on any executor.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from probe.errors import OutputError
from probe.store.folder import new_folder
from probe.store.manifest import digest
from probe.store.pictures import encode_picture
from probe.store.verify import verify
from probe.study.laid import laid
from probe.study.plan import SCHEMA, Job, plan
from probe.study.question import Study
from probe.study.rows import merge

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from probe.trace import Trace

JOBS, MANIFEST, PICTURE, TRACE = "jobs", "manifest.json", "picture.png", "trace"
TABLE = "table.parquet"
KEPT = {"pictures": PICTURE, "traces": f"{TRACE}/{MANIFEST}"}
KEY = re.compile(r"[0-9a-f]{32}")
HEAD, SEAL = b'{"seal":"', 64
LIMIT = 64 * 2**20  # bytes of a manifest
NEEDED = {"key", "status", "reason", "seconds"}

Depth = Literal["sizes", "hashes", "everything"]
State = Literal["done", "failed", "poisoned"]


@dataclass(frozen=True, slots=True)
class Result:
    """What the manifest of a finished job says: its row; size and hash of each file; bytes of all of them."""

    row: Mapping[str, Any]
    nbytes: int
    files: Mapping[str, tuple[int, str]]

    @property
    def key(self) -> str:
        """The job's key."""
        return self.row["key"]

    @property
    def state(self) -> State:
        """How it ended."""
        return self.row["status"]

    @property
    def reason(self) -> str:
        """Why it failed, else empty."""
        return self.row["reason"] or ""

    @property
    def seconds(self) -> float:
        """What the job took."""
        return self.row["seconds"]

    def holds(self, keep: Iterable[str]) -> bool:
        """Whether everything that should be kept is there; a failed job has nothing to keep."""
        return self.state != "done" or all(KEPT[what] in self.files for what in keep)


@dataclass(frozen=True)
class Made:
    """What is kept of a job beside its row."""

    picture: "Image.Image | None" = None
    trace: "Trace | None" = None


def place(folder: Path, key: str) -> Path:
    """Where a job's result lies."""
    return folder / JOBS / key[:2] / key


def write(folder: Path, row: Mapping[str, Any], made: Made) -> Result:
    """Keep a job's row and what it made, all or nothing; an older result is replaced. Raises OutputError."""
    key = row["key"]
    with new_folder(place(folder, key), replaces=_only_a_result) as hidden:
        if made.picture is not None:
            (hidden / PICTURE).write_bytes(encode_picture(made.picture, key))
        if made.trace is not None:
            made.trace.save(hidden / TRACE)
        named = [name for name in KEPT.values() if (hidden / name).is_file()]
        files = {name: (os.path.getsize(hidden / name), digest((hidden / name).read_bytes())) for name in named}
        nbytes = sum(path.stat().st_size for path in hidden.rglob("*") if path.is_file())
        result = Result(row, nbytes, files)
        (hidden / MANIFEST).write_bytes(sealed(result))
    return result


def look(folder: Path, key: str, depth: Depth = "sizes") -> Result | None:
    """The result of a job, if its manifest verifies: its seal and the files' sizes; their hashes too; the trace too."""
    home = place(folder, key)
    result = _opened(home / MANIFEST)
    if result is None or result.key != key:
        return None
    for name, (size, expected) in result.files.items():
        if not _as_written(home / name, size, expected if depth != "sizes" else None):
            return None
    damaged = depth == "everything" and KEPT["traces"] in result.files and not verify(home / TRACE).ok
    return None if damaged else result


def scan(folder: Path, depth: Depth = "sizes") -> dict[str, Result]:
    """Every finished job in a folder, by key."""
    shards = sorted(path for path in (folder / JOBS).glob("[0-9a-f][0-9a-f]") if path.is_dir())
    keys = [name for shard in shards for name in sorted(os.listdir(shard)) if KEY.fullmatch(name)]
    found = ((key, look(folder, key, depth)) for key in keys)
    return {key: result for key, result in found if result is not None}


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left; call it only while no other run is at work."""
    for leftover in (folder / JOBS).glob("[0-9a-f][0-9a-f]/.*"):
        shutil.rmtree(leftover, ignore_errors=True)


@dataclass(frozen=True)
class Status:
    """How far a study is. `seconds` is the mean of the jobs that are done; `reasons` are of those that failed."""

    folder: Path
    jobs: int
    done: int = 0
    failed: int = 0
    poisoned: int = 0
    nbytes: int = 0
    seconds: float | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Jobs without a result."""
        return self.jobs - self.done - self.failed - self.poisoned

    @property
    def ok(self) -> bool:
        """Whether every job is done."""
        return self.done == self.jobs

    def __str__(self) -> str:
        rest = f", {self.left:,} to do" if self.left else ""
        if self.left and self.seconds is not None:
            rest += f" (about {clock(self.left * self.seconds)})"
        bad = {"failed": self.failed, "poisoned": self.poisoned}
        named = "".join(f", {count:,} {name}" for name, count in bad.items() if count)
        head = f"{self.folder}: {self.done:,} of {self.jobs:,} jobs done{named}{rest}; {self.nbytes:,} bytes"
        return "\n".join([head, *(f"  {count:,} x {reason}" for reason, count in self.reasons.items())])


def status(study: Study, *, depth: Depth = "sizes") -> Status:
    """How far a resolved study is, by what lies in its folder."""
    return count(study, plan(study), scan(study.path, depth))


def count(study: Study, jobs: Sequence[Job], results: Mapping[str, Result]) -> Status:
    """The same, of jobs and results that were read already."""
    mine = [results[job.key] for job in jobs if job.key in results and results[job.key].holds(study.keep)]
    states = Counter(result.state for result in mine)
    times = [result.seconds for result in mine if result.state == "done"]
    reasons = Counter(result.reason for result in mine if result.state != "done")
    return Status(
        folder=study.path,
        jobs=len(jobs),
        done=states["done"],
        failed=states["failed"],
        poisoned=states["poisoned"],
        nbytes=sum(result.nbytes for result in mine),
        seconds=sum(times) / len(times) if times else None,
        reasons=dict(reasons.most_common()),
    )


def table(study: Study) -> "pd.DataFrame":
    """One row a finished job of a resolved study, in the order of the plan."""
    results = scan(study.path)
    return merge(laid(results[job.key], job, study).row for job in plan(study) if job.key in results).to_pandas()


def replace_file(path: Path, data: bytes) -> Path:
    """Write a file that is always whole. Raises OutputError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path} ({error.strerror}): free some space or check its permissions"
        ) from error
    return path


def clock(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def sealed(result: Result) -> bytes:
    """A manifest: JSON whose first entry is the hash of all that follows."""
    body = {"format": "probe job", "schema_version": SCHEMA}
    body |= {name: getattr(result, name) for name in Result.__slots__}
    data = json.dumps(body, default=str).encode()[1:]
    return HEAD + digest(data).encode() + b'",' + data


def _opened(path: Path) -> Result | None:
    """What a manifest says, or None where there is none, or one that is not as it was written."""
    try:
        data = path.read_bytes() if path.stat().st_size <= LIMIT else b""
    except OSError:
        return None
    seal, rest = data[len(HEAD) : len(HEAD) + SEAL], data[len(HEAD) + SEAL + 2 :]
    if not data.startswith(HEAD) or digest(rest).encode() != seal:
        return None
    try:
        body = json.loads(b"{" + rest)
        result = Result(**{name: body[name] for name in Result.__slots__})
        known = body["schema_version"] == SCHEMA and set(result.files) <= set(KEPT.values())
        return result if known and all(map(_is_entry, result.files.values())) and result.row.keys() >= NEEDED else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == [int, str]


def _as_written(path: Path, size: int, expected: str | None) -> bool:
    try:
        same = os.lstat(path).st_size == size
        return same and (expected is None or digest(path.read_bytes()) == expected)
    except OSError:
        return False


def _only_a_result(folder: Path) -> None:
    foreign = sorted({path.name for path in folder.iterdir()} - {PICTURE, TRACE, MANIFEST})
    if foreign:
        raise OutputError(f"{folder} holds {foreign[0]!r}, which no study wrote: it is not replaced, move it first")
