"""Changing a saved trace as a stranger can: with a manifest that agrees."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.errors import DamagedFile, OverBudget
from probe.store import open_trace
from probe.store.manifest import digest
from probe.store.plain import canonical


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and seal it anew, as a stranger can."""
    body = json.loads((folder / "manifest.json").read_bytes())
    change(body)
    del body["seal"]
    (folder / "manifest.json").write_bytes(canonical({**body, "seal": digest(canonical(body))}))


def forge(folder: Path, path: str, data: bytes) -> None:
    """Replace a file and make the manifest agree."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    reseal(folder, lambda body: body["files"].update({path: {"size": len(data), "blake2b": digest(data)}}))


def refused(folder: Path, match: str) -> None:
    """Opening and reading raise one of the two errors, at once and within 64 MB."""
    tracemalloc.start()
    try:
        with pytest.raises((DamagedFile, OverBudget), match=match):
            for node in open_trace(folder).tree.subtree:
                node.load()
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()
