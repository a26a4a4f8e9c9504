"""A folder that all processes of a test run share, for what is costly to make and the same for all."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import psutil

NAME = "PROBE_TESTS_ROOM"  # of the variable by which a process tells its children where it is
PREFIX = "probe-tests-"


def room() -> Path:
    """The folder. The first process of a run makes it, and clears it when it ends."""
    if NAME not in os.environ:
        _clear()
        os.environ[NAME] = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        atexit.register(shutil.rmtree, os.environ[NAME], ignore_errors=True)
    return Path(os.environ[NAME])


def _clear() -> None:
    """Remove what runs left that were killed."""
    for other in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        if not psutil.pid_exists(int(other.name.removeprefix(PREFIX).partition("-")[0])):
            shutil.rmtree(other, ignore_errors=True)
