"""A recorded run as a setting: the folder of a trace and, once the study is resolved, the digest of its manifest.

What decides a result is what the run holds, so the digest is part of a job's key and the folder is not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.errors import BadInput
from probe.store.manifest import NAME, digest
from probe.store.read import open_trace
from probe.study.question import RECORDED
from probe.trace import Trace

FOLDER, DIGEST = "folder", "digest"


def named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the digest of the recorded run that they name. Raises BadInput, DamagedFile."""
    if RECORDED not in settings or settings[RECORDED] is None:
        return dict(settings)
    folder, found, _ = _read(settings[RECORDED])
    return {**settings, RECORDED: {FOLDER: folder, DIGEST: found}}


def opened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the trace itself in the place of its folder; a trace stays. Raises BadInput, DamagedFile."""
    value = settings.get(RECORDED)
    if not isinstance(value, str | Mapping):
        return dict(settings)
    return {**settings, RECORDED: _read(value)[2]}


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with what a recorded run holds in the place of where it lies."""
    value = settings.get(RECORDED)
    return {**settings, RECORDED: value[DIGEST]} if isinstance(value, Mapping) and DIGEST in value else dict(settings)


def _read(value: Any) -> tuple[str, str, Trace]:
    """(folder, digest, trace); whatever is wrong with it is said now. Raises BadInput, DamagedFile."""
    folder, said = _parts(value)
    place = Path(folder).expanduser()
    trace, found = open_trace(place), digest((place / NAME).read_bytes(), 16)
    if said not in (None, found):
        raise BadInput(f"the recorded run in {folder} is {found}, the study says {said}: restore it, or take that out")
    return folder, found, trace


def _parts(value: Any) -> tuple[str, str | None]:
    """(folder, digest or None)"""
    if isinstance(value, str) and not value.startswith("$"):
        return value, None
    if isinstance(value, Mapping) and isinstance(value.get(FOLDER), str) and set(value) <= {FOLDER, DIGEST}:
        return value[FOLDER], value.get(DIGEST)
    raise BadInput(f"{RECORDED}: {value!r} is not a recorded run; give the folder of one trace, as for `probe.open`")
