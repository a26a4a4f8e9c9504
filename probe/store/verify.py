"""Does a trace folder still hold what was written?"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probe.errors import DamagedFile, OverBudget
from probe.store.check import differences, read_checked
from probe.store.manifest import NAME, Manifest, load
from probe.store.read import open_trace


@dataclass(frozen=True)
class Report:
    """The verdict on a folder: how many files and bytes were compared, and what is wrong with them."""

    folder: Path
    files: int
    nbytes: int
    problems: tuple[str, ...]
    is_trace: bool = True  # whether there is a manifest, so that files can be compared at all

    @property
    def ok(self) -> bool:
        """Whether every file is as it was written."""
        return not self.problems

    def __str__(self) -> str:
        if not self.is_trace:
            return f"{self.folder}: not a trace\n  {self.problems[0]}"
        many = "problem" if len(self.problems) == 1 else "problems"
        verdict = "as written" if self.ok else f"DAMAGED, {len(self.problems)} {many}"
        head = f"{self.folder}: {verdict} ({self.files} files, {self.nbytes:,} bytes)"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


def verify(folder: str | Path) -> Report:
    """Compare every file of a trace with the size and hash in its manifest; reads all of it, raises nothing."""
    root = Path(folder)
    try:
        manifest = load(root)
    except DamagedFile as error:
        return Report(root, 0, 0, (str(error),), is_trace=os.path.lexists(root / NAME))
    problems = tuple(_problems(root, manifest))
    size = sum(entry.size for entry in manifest.files.values())
    return Report(root, len(manifest.files) + 1, size, problems or tuple(_reopen(root)))


def _problems(root: Path, manifest: Manifest) -> Iterator[str]:
    try:
        wrong = differences(root, manifest.files, strays=True)
    except DamagedFile as error:
        yield str(error)
        return
    yield from (f"{path} {what}" for path, what in wrong.items())
    for path in manifest.files.keys() - wrong.keys():
        try:
            read_checked(root, path, manifest.files[path])
        except DamagedFile as error:
            yield str(error)


def _reopen(root: Path) -> Iterator[str]:
    try:
        open_trace(root)
    except (DamagedFile, OverBudget) as error:
        yield str(error)
