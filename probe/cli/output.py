"""Where a result goes: a folder that does not exist yet, or an earlier result that is to be replaced."""

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from probe.cli.arguments import Describe
from probe.cli.parser import settings
from probe.errors import OutputError
from probe.store.folder import new_folder

MARK = "settings.yaml"  # every result holds it, so a folder without it is somebody else's


def choose(out: str | None, prompt: str) -> Path:
    """The folder that was asked for, or a free one in `out/`, named after the prompt."""
    if out is not None:
        return Path(out).expanduser().absolute()
    return free(Path("out", slug(prompt)).absolute())


def free(path: Path) -> Path:
    """The path, or with the first number behind it under which nothing exists."""
    names = (path.name if i == 1 else f"{path.name}-{i}" for i in count(1))
    return next(found for name in names if not os.path.lexists(found := path.with_name(name)))


def target_of(options: Namespace, prompt: str) -> Path:
    """As `choose`. Raises OutputError for a folder that exists, unless --overwrite was given."""
    target = choose(options.out, prompt)
    if os.path.lexists(target) and not options.overwrite:
        raise OutputError(f"{target} exists already: choose another --out, or replace it with --overwrite")
    return target


def target_if_given(options: Namespace, prompt: str) -> Path | None:
    """As `target_of`; None without --out, where a command only prints."""
    return None if options.out is None else target_of(options, prompt)


@contextmanager
def folder(target: Path, options: Namespace, describe: Describe) -> Generator[Path]:
    """A work folder that becomes `target`, with the settings beside the rest, once the block ends without an error."""
    with new_folder(target, replaces=replaceable) as work:
        yield work
        (work / MARK).write_text(settings(options, describe), encoding="utf-8")


@contextmanager
def folder_if_given(target: Path | None, options: Namespace, describe: Describe) -> Generator[Path | None]:
    """As `folder`; None where there is no target."""
    if target is None:
        yield None
        return
    with folder(target, options, describe) as work:
        yield work


def save(figures: Mapping[str, Any], folder: Path) -> list[str]:
    """Each figure as PNG and SVG, laid out once for both; returns their names."""
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
        figure.set_layout_engine("none")
        figure.savefig(folder / f"{name}.svg")
    return list(figures)


def slug(text: str) -> str:
    """A file name for a text: its letters and digits in lower case, joined by hyphens, at most 60 characters."""
    return re.sub(r"\W+", "-", text.casefold()).strip("-")[:60] or "untitled"


def replaceable(target: Path) -> None:
    """Raise OutputError if `target` is not a result of this command line."""
    if not (target / MARK).is_file():
        raise OutputError(f"{target} was not made by `probe` (no {MARK}), so it is not replaced: choose another --out")
