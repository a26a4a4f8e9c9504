"""The folder of saved traces. A trace is known by its id alone; no path ever comes from the browser."""

import os
import re
import secrets
from hashlib import blake2b
from pathlib import Path

from probe.errors import BadInput
from probe.trace import Trace

ID = re.compile(r"[a-z0-9-]{8,64}", re.ASCII)
VARIABLE, DEFAULT = "PROBE_TRACES", "probe-traces"


def root() -> Path:
    """The folder: $PROBE_TRACES, or ./probe-traces. It need not exist."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser().absolute()


def new_id(prompt: str) -> str:
    """An id for a new trace: the prompt's letters and digits, and six random digits."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.casefold()).strip("-")[:40].strip("-")
    return f"{words or 'trace'}-{secrets.token_hex(3)}"


def save(trace: Trace) -> str:
    """Save a trace under a new id, whole or not at all. Raises OutputError."""
    name = new_id(trace.prompt)
    trace.save(root() / name)
    return name


def find(name: str) -> Path:
    """The folder of a saved trace. Raises BadInput if the id is none, or no trace has it."""
    if not ID.fullmatch(name):
        raise BadInput(
            "this is not the id of a trace: an id has 8 to 64 of the characters a-z, 0-9 and -. Choose one below"
        )
    for folder in (root() / name, *(each for each in folders() if identify(each.name) == name)):
        place = _trace_in(folder)
        if place is not None:
            return place
    raise BadInput(f"there is no trace {name} in {root()}. It may have been moved or removed; choose one below")


def names() -> list[str]:
    """The ids of all saved traces, newest first."""
    found = [(each.lstat().st_mtime_ns, identify(each.name)) for each in folders() if _trace_in(each) is not None]
    return [name for _, name in sorted(found, reverse=True)]


def identify(folder: str) -> str:
    """The id of a folder: its name, or the hash of a name that cannot be one."""
    return folder if ID.fullmatch(folder) else f"folder-{blake2b(os.fsencode(folder), digest_size=8).hexdigest()}"


def folders() -> list[Path]:
    """Everything in the folder that may be a trace, or hold one; no links."""
    if not root().is_dir():
        return []
    with os.scandir(root()) as entries:
        return [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False) and each.name[0] != "."]


def _trace_in(folder: Path) -> Path | None:
    """The trace that a folder is, or that `probe trace` left in it; no link is followed."""
    for place in (folder, folder / "trace"):
        if not folder.is_symlink() and not place.is_symlink() and (place / "manifest.json").is_file():
            return place
    return None
