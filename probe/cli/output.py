"""Where a result goes: a folder that does not exist yet, or an earlier result that is to be replaced."""

import os
import re
from itertools import count
from pathlib import Path

from probe.errors import OutputError

MARK = "settings.yaml"  # every result holds it, so a folder without it is somebody else's


def choose(out: str | None, prompt: str) -> Path:
    """The folder that was asked for, or a free one in `out/`, named after the prompt."""
    if out is not None:
        return Path(out).expanduser().absolute()
    stem = slug(prompt)
    names = (stem if i == 1 else f"{stem}-{i}" for i in count(1))
    return next(path for name in names if not os.path.lexists(path := Path("out", name).absolute()))


def slug(text: str) -> str:
    """A file name for a text: its letters and digits in lower case, joined by hyphens, at most 60 characters."""
    return re.sub(r"\W+", "-", text.casefold()).strip("-")[:60] or "untitled"


def refuse(target: Path) -> None:
    """Raise OutputError if `target` is taken."""
    if os.path.lexists(target):
        raise OutputError(f"{target} exists already: choose another --out, or replace it with --overwrite")


def replaceable(target: Path) -> None:
    """Raise OutputError if `target` is not a result of `probe trace`."""
    if not (target / MARK).is_file():
        raise OutputError(f"{target} was not made by `probe trace`, so it is not replaced: choose another --out")
