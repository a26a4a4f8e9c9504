"""What lies in the dashboard's folder beside the traces: told by a file in it, known to pages by an id alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import streamlit as st

from dashboards.shared import traces
from probe.errors import BadInput, ProbeError

T = TypeVar("T")


def tried(open_it: Callable[[str], T], name: str) -> T | ProbeError:
    """The opened thing, or what is wrong with it."""
    try:
        return open_it(name)
    except ProbeError as problem:
        return problem


@dataclass(frozen=True)
class Kept(Generic[T]):
    """One kind of thing: folders with the file `mark`, or with a folder `inner` that has it, as a command leaves it."""

    what: str
    mark: str
    read: Callable[[Path], T]
    inner: str = ""

    def names(self) -> list[str]:
        """The ids of all of them, newest first."""
        found = {traces.identify(folder.name): folder for folder in traces.folders() if self._in(folder)}
        return sorted(found, key=lambda name: found[name].lstat().st_mtime_ns, reverse=True)

    def place(self, name: str) -> Path:
        """The folder with this id. Raises BadInput if there is none."""
        places = (self._in(folder) for folder in traces.folders() if traces.identify(folder.name) == name)
        found = next(filter(None, places), None)
        if found is None:
            raise BadInput(
                f"there is no saved {self.what} with this id. It may have been moved or removed; choose one below"
            )
        return found

    def opened(self, name: str) -> T:
        """What has this id. Raises BadInput or DamagedFile."""
        folder = self.place(name)
        return _open(self.what, folder, (folder / self.mark).stat().st_mtime_ns, self.read)

    def try_open(self, name: str) -> T | ProbeError:
        """The same, or what is wrong with it."""
        return tried(self.opened, name)

    def _in(self, folder: Path) -> Path | None:
        """Where in a folder it is; no link is followed."""
        places = (each for each in (folder, folder / self.inner) if not each.is_symlink())
        return next((each for each in places if (each / self.mark).is_file()), None)


@st.cache_resource(max_entries=32, show_spinner=False)
def _open(what: str, folder: Path, stamp: int, _read: Callable[[Path], T]) -> T:
    return _read(folder)
