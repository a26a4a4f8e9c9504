"""The folder of saved traces. A trace is known by its id alone; no path ever comes from the browser."""

import os
import re
import secrets
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
        raise BadInput("this is no id of a trace: an id has 8 to 64 of the characters a-z, 0-9 and -. Choose one below")
    folder = root() / name
    if folder.is_symlink() or not folder.is_dir():
        raise BadInput(f"there is no trace {name} in {root()}. It may have been moved or removed; choose one below")
    inner = folder / "trace"  # as `probe trace` leaves it
    return inner if inner.is_dir() and not inner.is_symlink() else folder


def names() -> list[str]:
    """The ids of all saved traces, newest first."""
    if not root().is_dir():
        return []
    with os.scandir(root()) as entries:
        found = [(entry.stat(follow_symlinks=False).st_mtime_ns, entry.name) for entry in entries if _is_trace(entry)]
    return [name for _, name in sorted(found, reverse=True)]


def _is_trace(entry: os.DirEntry[str]) -> bool:
    return ID.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)
