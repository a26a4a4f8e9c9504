"""A folder appears whole or not at all, whatever happens to the writer."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from probe.errors import OutputError
from probe.store import folder as folders
from probe.store import verify
from probe.store.folder import new_folder
from probe.trace import Trace
from tests.factories import make_small_trace, make_trace
from tests.forks import SERVER


def write_forever(home: str, first: Connection) -> None:
    """Save traces until something ends this process; sends how many seconds the first one took."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # an interrupted child need not say so
    trace = make_small_trace()
    start = time.perf_counter()
    for i in range(10_000):
        trace.save(Path(home) / f"trace-{i}")
        trace.save(Path(home) / "latest", exist_ok=True)
        if i == 0:
            first.send(time.perf_counter() - start)


def end_a_writer(home: Path, number: int, rng: random.Random) -> None:
    ours, theirs = SERVER.Pipe()
    writer = SERVER.Process(target=write_forever, args=(str(home), theirs))
    writer.start()
    time.sleep(rng.uniform(0.0, 1.5 * ours.recv()))
    os.kill(writer.pid or 0, number)
    writer.join(10)
    writer.kill()
    writer.join()


@pytest.mark.parametrize("mine", [True, False])
def test_what_another_writer_put_there_meanwhile_is_not_replaced(tmp_path: Path, mine: bool) -> None:
    def foreign(folder: Path) -> None:
        if (folder / "other").exists():
            raise OutputError("holds 'other'")

    raised = pytest.raises(OutputError, match=r"exists already|holds 'other'")
    with raised, new_folder(tmp_path / "a", replaces=foreign if mine else None) as hidden:
        (hidden / "one").write_text("1")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "other").write_text("2")
    assert (tmp_path / "a" / "other").read_text() == "2" and list(tmp_path.iterdir()) == [tmp_path / "a"]


def visible(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if not path.name.startswith(".")]


def end_writers(home: Path, number: int, count: int) -> int:
    """End a writer `count` times; assert that no damaged trace is visible, and return how many whole ones are.

    The moment is drawn from `count`, so tests of different counts end their writers at different moments.
    """
    rng = random.Random(count)
    whole = 0
    for i in range(count):
        (home / str(i)).mkdir()
        end_a_writer(home / str(i), number, rng)
        reports = [verify(path) for path in visible(home / str(i))]
        assert all(report.ok for report in reports), "\n".join(str(report) for report in reports if not report.ok)
        whole += len(reports)
    return whole


@pytest.mark.parametrize("count", [15, pytest.param(85, marks=pytest.mark.slow)])  # together a hundred
def test_killed_writers_leave_no_damaged_trace(tmp_path: Path, count: int) -> None:
    assert end_writers(tmp_path, signal.SIGKILL, count) >= count


def test_an_interrupted_writer_leaves_no_damaged_trace(tmp_path: Path) -> None:
    assert end_writers(tmp_path, signal.SIGINT, 5) >= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, OSError])
def test_nothing_is_left_when_the_body_fails(tmp_path: Path, error: type[BaseException]) -> None:
    expected = OutputError if error is OSError else error
    with pytest.raises(expected), new_folder(tmp_path / "a/b/t") as hidden:
        (hidden / "part").write_text("half")
        assert hidden.name.startswith(".") and not (tmp_path / "a/b/t").exists()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_parents_that_others_use_stay(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "a/b/t"):
        (tmp_path / "a/other").write_text("theirs")
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]


def test_everything_is_on_the_disk_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: set[str] = set()
    lacking: list[str] = []
    fsync, move = os.fsync, os.replace

    def note(handle: int) -> None:
        kept.add(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def check(source: Path, target: Path) -> None:
        lacking.extend(str(path) for path in (source, *source.rglob("*")) if str(path) not in kept)
        move(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", check)
    make_trace().save(tmp_path / "t")
    assert lacking == [] and len(kept) > 60 and str(tmp_path) in kept


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "t")
    with pytest.raises(OutputError, match="exists already: choose another folder, or say exist_ok=True"):
        make_trace().save(tmp_path / "t")
    for name in ("file", "link"):
        with pytest.raises(OutputError, match="exists and is not a folder"):
            make_trace().save(tmp_path / name, exist_ok=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "t"]


def test_exist_ok_replaces_a_trace_and_nothing_else(tmp_path: Path) -> None:
    old, new = make_trace(seed=1), make_trace(seed=2)
    old.save(tmp_path / "t")
    new.save(tmp_path / "t", exist_ok=True)
    assert Trace.open(tmp_path / "t").equals(new) and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "t" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'notes\.txt', which is not part of a trace"):
        old.save(tmp_path / "t", exist_ok=True)
    assert (tmp_path / "t" / "notes.txt").read_text() == "mine" and Trace.open(tmp_path / "t").equals(new)


def test_the_old_trace_stays_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_trace(seed=1)
    old.save(tmp_path / "t")
    move = os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.suffix == ".partial":
            raise OSError(5, "Input/output error")
        move(source, target)

    monkeypatch.setattr(folders.os, "replace", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        make_trace(seed=2).save(tmp_path / "t", exist_ok=True)
    assert Trace.open(tmp_path / "t").equals(old) and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["", "..", "a\0b", "file/t", "x" * 250])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="choose another"):
        make_trace().save(str(tmp_path / name) if name not in ("", "..") else name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, mounted with the options that the test names."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(place)]
    if sys.platform != "linux" or os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("small_disk", ["size=120k"], indirect=True)
def test_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        make_trace(steps=10).save(small_disk / "deep" / "t")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("small_disk", ["ro"], indirect=True)
def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"Read-only file system.*check the permissions"):
        make_trace().save(small_disk / "t")
