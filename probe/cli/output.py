"""The output folder: built in a hidden sibling, renamed when it is whole. Whoever looks sees all of it or none."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from probe.errors import OutputError

MARK = "settings.yaml"  # every folder made here holds it, so a folder without it is somebody else's


def choose(out: str | None, prompt: str) -> Path:
    """The folder that was asked for, or a free one in `out/`, named after the prompt."""
    if out is not None:
        return Path(out).expanduser().absolute()
    slug = re.sub(r"\W+", "-", prompt.casefold()).strip("-")[:60] or "prompt"
    names = (slug if i == 1 else f"{slug}-{i}" for i in count(1))
    return next(path for name in names if not os.path.lexists(path := Path("out", name).absolute()))


@contextmanager
def fresh_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder beside `target` that takes its place at the end, or is removed if anything goes wrong.

    Raises OutputError if `target` exists (with `overwrite`: if it is no result of `probe trace`) or cannot be made.
    """
    refuse(target, overwrite)
    work = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    made: list[Path] = []
    try:
        with writing(target):
            made = _make(work)
        yield work
        with writing(target):
            _publish(work, target)
        made = []
    finally:
        shutil.rmtree(work, ignore_errors=True)
        _unmake(made)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn the system's complaints (disk full, read-only, no permission) into one OutputError that names the remedy."""
    try:
        yield
    except OutputError:
        raise
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise OutputError(f"cannot write {target}: {reason}. Make room or choose another place with --out") from problem


def refuse(target: Path, overwrite: bool) -> None:
    """Raise OutputError if `target` is taken."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"{target} exists already. Choose another --out, or replace it with --overwrite")
    if target.is_symlink() or not (target / MARK).is_file():
        raise OutputError(f"{target} exists and was not made by `probe trace`: it is not replaced. Choose another --out")


def _make(work: Path) -> list[Path]:
    """Create the folder; return the parents that had to be created with it, innermost first."""
    missing = [parent for parent in work.parents if not parent.exists()]
    work.mkdir(parents=True)
    return missing


def _unmake(parents: list[Path]) -> None:
    """Remove parents that were created for nothing; whoever uses one by now keeps it."""
    for parent in parents:
        try:
            parent.rmdir()
        except OSError:
            return


def _publish(work: Path, target: Path) -> None:
    for path in [*work.rglob("*"), work]:
        _flush(path)
    earlier = work.with_name(f"{work.name}.old")
    if os.path.lexists(target):
        os.rename(target, earlier)
    try:
        os.rename(work, target)
    except OSError:
        if earlier.exists():
            os.rename(earlier, target)
        raise
    _flush(target.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _flush(path: Path) -> None:
    """Make what is written survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
