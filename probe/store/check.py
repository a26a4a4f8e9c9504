"""Compare the files of a folder with its manifest."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from probe.errors import DamagedFile
from probe.store.manifest import ARRAYS, NAME, REMEDY, Entry, digest


def differences(folder: Path, files: Mapping[str, Entry], *, strays: bool) -> dict[str, str]:
    """By path, what is missing, of another size or a link; file contents are not read.

    Files that the manifest does not list count when they lie among the arrays, and with `strays` everywhere.
    Raises DamagedFile when the folder cannot be read.
    """
    found = dict(_walk(folder))
    wrong = {path: "is a link or a device, expected a plain file" for path, size in found.items() if size is None}
    wrong |= {path: "is missing" for path in files if path not in found}
    for path, size in found.items():
        if path not in files and (strays or path.startswith(ARRAYS)) and path != NAME:
            wrong[path] = "is not in the manifest"
        elif path in files and size not in (None, files[path].size):
            wrong[path] = f"has {size} bytes, expected {files[path].size}"
    return wrong


def read_checked(folder: Path, path: str, entry: Entry) -> bytes:
    """The bytes of a file. Raises DamagedFile when they do not match its hash."""
    try:
        data = (folder / path).read_bytes()
    except OSError as error:
        raise DamagedFile(f"{folder / path} cannot be read ({error.strerror}). {REMEDY}") from error
    if digest(data) != entry.blake2b:
        raise DamagedFile(f"{folder / path} does not match the hash in its manifest. {REMEDY}")
    return data


def check_sizes(folder: Path, files: Mapping[str, Entry]) -> None:
    """Raise DamagedFile when a file has gone or changed its size since the trace was opened."""
    for path, entry in files.items():
        try:
            size = os.lstat(folder / path).st_size
        except OSError as error:
            raise DamagedFile(f"{folder / path} is missing ({error.strerror}). {REMEDY}") from error
        if size != entry.size:
            raise DamagedFile(f"{folder / path} has {size} bytes, expected {entry.size}. {REMEDY}")


def _walk(folder: Path) -> Iterator[tuple[str, int | None]]:
    """Relative path and size of each file; None for what is no plain file. Links are not followed."""
    waiting = [folder]
    while waiting:
        for item in _items(waiting.pop()):
            status = item.lstat()
            if stat.S_ISDIR(status.st_mode):
                waiting.append(item)
            else:
                yield item.relative_to(folder).as_posix(), status.st_size if stat.S_ISREG(status.st_mode) else None


def _items(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DamagedFile(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
