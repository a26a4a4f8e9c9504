"""What all tests share: files in memory, no network but this machine's own, a real browser where there is one."""

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.room import room

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")

ROOT = Path(__file__).parent.parent
MEMORY, ENOUGH = Path("/dev/shm"), 4 * 2**30  # a file system in memory; bytes that it must have free
LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")

if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH:
    # Whoever writes a trace waits for the disk; a process that is killed leaves the same files in memory as on a disk.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no mistake of an example
hypothesis.settings.load_profile("patient")

room()  # made here, by the process that starts the workers, so that they share it


class NoNetwork(RuntimeError):
    """A test tried to leave this machine."""


@pytest.fixture(autouse=True, scope="session")
def only_this_machine():
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise NoNetwork(f"a test wants to connect to {address[0]}; tests download nothing")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(autouse=True)
def gradients_stay_on():
    """No test may leave torch without gradients: the next one would learn nothing."""
    yield
    torch = sys.modules.get("torch")
    assert torch is None or torch.is_grad_enabled()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def chromium() -> str:
    """A real browser's executable, for tests marked `browser`."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here")
    return found
