"""Marks that a job is at work. One that stays behind tells that its process died while the job ran."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from probe.study.results import KEY, Result

RUNNING = "running"


@contextmanager
def at_work(folder: Path, keys: Sequence[str]) -> Iterator[Callable[[Result], Result]]:
    """Mark jobs as being done, until each is passed to what is yielded, or until the block ends in any civil way."""
    home = folder / RUNNING
    home.mkdir(parents=True, exist_ok=True)
    for key in keys:
        (home / key).write_text(str(os.getpid()), encoding="ascii")

    def finished(result: Result) -> Result:
        (home / result.key).unlink(missing_ok=True)
        return result

    try:
        yield finished
    finally:
        for key in keys:
            (home / key).unlink(missing_ok=True)


def left_behind(folder: Path) -> dict[str, int]:
    """The jobs that are marked, with the process that marked each (0 where that cannot be read)."""
    home = folder / RUNNING
    names = sorted(os.listdir(home)) if home.is_dir() else []
    return {name: _process(home / name) for name in names if KEY.fullmatch(name)}


def suspect(folder: Path, keys: Sequence[str]) -> None:
    """Mark jobs for no process in particular."""
    for key in keys:
        (folder / RUNNING / key).write_text("0", encoding="ascii")


def clear(folder: Path, key: str) -> None:
    """Remove a mark."""
    (folder / RUNNING / key).unlink(missing_ok=True)


def _process(path: Path) -> int:
    text = path.read_text(encoding="ascii", errors="replace")
    return int(text) if text.isdecimal() else 0
