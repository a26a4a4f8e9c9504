"""A folder that all processes of a test run share, for what is costly to make and the same for all."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

NAME = "PROBE_TESTS_ROOM"  # of the variable by which a process tells its children where it is


def room() -> Path:
    """The folder. The first process of a run makes it, and clears it when it ends."""
    if NAME not in os.environ:
        os.environ[NAME] = tempfile.mkdtemp(prefix="probe-tests-")
        atexit.register(shutil.rmtree, os.environ[NAME], ignore_errors=True)
    return Path(os.environ[NAME])
