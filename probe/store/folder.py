"""A folder that appears whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from probe.errors import OutputError


@contextmanager
def new_folder(target: Path, *, replaces: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A hidden sibling of `target`, which takes its place when the body succeeds and vanishes when it does not.

    Parents are made. An existing folder is refused unless `replaces` is given; that is called with the folder and
    raises OutputError if it may not be replaced. Raises OutputError for whatever else the disk refuses.
    """
    with _explained(target), ExitStack() as undo:
        target = Path(os.path.abspath(target))
        _check_target(target, replaces)
        _make_parents(target.parent, undo)
        hidden = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
        undo.callback(shutil.rmtree, hidden, ignore_errors=True)
        hidden.mkdir()
        yield hidden
        sync(hidden)
        _check_target(target, replaces)  # another writer may have been faster
        _put_in_place(hidden, target, undo)
        _sync_one(target.parent)


def sync(folder: Path) -> None:
    """Ask the disk to keep every file below `folder`, then the folders themselves."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync_one(Path(root) / name)
        _sync_one(Path(root))


def _check_target(target: Path, replaces: Callable[[Path], None] | None) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputError(f"{target} exists and is not a folder: choose another name, or remove it first")
    if replaces is None:
        raise OutputError(f"{target} exists already: choose another folder, or say exist_ok=True to replace it")
    replaces(target)


def _make_parents(parent: Path, undo: ExitStack) -> None:
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        undo.callback(_remove_if_empty, folder)
        folder.mkdir(exist_ok=True)


def _put_in_place(hidden: Path, target: Path, undo: ExitStack) -> None:
    if target.exists():
        old = hidden.with_suffix(".old")
        undo.callback(shutil.rmtree, old, ignore_errors=True)
        undo.callback(_give_back, old, target)
        os.replace(target, old)
    os.replace(hidden, target)


def _give_back(old: Path, target: Path) -> None:
    if old.exists() and not target.exists():
        os.replace(old, target)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _sync_one(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # elsewhere a folder cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the permissions"
        found = f"cannot write {target} ({error.strerror or error}), and nothing was left there"
        raise OutputError(f"{found}: {remedy}, or choose another folder") from error
