"""Where a result goes: a folder that does not exist yet, or an earlier result that is to be replaced."""

import os
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from probe.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def draw(figure: "Figure", path: Path) -> None:
    """The figure as PNG and SVG beside each other, under the name of `path`; it is laid out once, for both."""
    figure.savefig(path.with_name(f"{path.name}.png"))
    figure.set_layout_engine("none")
    figure.savefig(path.with_name(f"{path.name}.svg"))
