"""The folder of traces: ids only, never a path from outside."""

import io
import os
import shutil
from pathlib import Path

import pytest

from dashboards.shared import traces
from probe.errors import BadInput
from tests.factories import make_trace

OUTSIDE = (
    *("..", ".", "", "../secret-trace", "..%2fsecret-trace", "%2e%2e%2fsecret-trace", "..\\secret-trace"),
    *("/etc/passwd", "//server/share", "\\\\server\\share", "C:\\traces", "file:///etc", "secret-trace/..", "a" * 65),
    *(
        "secret-trace\0",
        "secret-trace\n",
        "Secret-Trace",
        "sécret-trace",
        "short",
        ".secret-trace",
        "secret trace",
        "~root-aa",
    ),
)


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(traces.VARIABLE, "elsewhere")
    assert traces.root() == tmp_path / "elsewhere"
    monkeypatch.delenv(traces.VARIABLE)
    assert traces.root() == tmp_path / "probe-traces"
    assert traces.names() == []
    assert not traces.root().exists()


@pytest.mark.parametrize("prompt", ["a cat", "", "猫と犬", "../../etc", "A" * 500, "-- --", "é" * 90, "x"])
def test_a_new_id_is_an_id_and_never_the_same(prompt: str):
    made = {traces.new_id(prompt) for _ in range(20)}
    assert len(made) == 20
    assert all(traces.ID.fullmatch(name) for name in made)


def test_what_is_saved_is_found():
    name = traces.save(make_trace())
    assert name.startswith("a-cat-and-a-balloon-")
    assert traces.names() == [name]
    assert traces.find(name) == traces.root() / name


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_id_leads_outside(name: str, tmp_path: Path):
    (tmp_path / "secret-trace").mkdir()
    traces.root().mkdir()
    with pytest.raises(BadInput, match="this is not the id of a trace: an id has 8 to 64"):
        traces.find(name)


def test_an_id_that_no_trace_has():
    with pytest.raises(BadInput, match=r"there is no trace nowhere-at-all in .* choose one below"):
        traces.find("nowhere-at-all")


def test_links_are_not_followed(saved: str, tmp_path: Path):
    shutil.move(traces.find(saved), tmp_path / "elsewhere")
    (traces.root() / "linked-trace").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert traces.names() == []
    with pytest.raises(BadInput, match="there is no trace linked-trace"):
        traces.find("linked-trace")


@pytest.mark.parametrize("name", ["a-cat-and-a-balloon", "demo", "Über 猫", "x" * 80])
def test_results_of_the_command_line_are_found(name: str, root_of_traces: Path):
    make_trace(steps=1).save(root_of_traces / name / "trace")
    (found,) = traces.names()
    assert traces.ID.fullmatch(found)
    assert traces.find(found) == root_of_traces / name / "trace"


def lay(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def test_newest_first_and_foreign_entries_left_out(root_of_traces: Path):
    for age, name in enumerate(("newest-trace", "middle-trace", "oldest-trace")):
        lay(root_of_traces / name)
        os.utime(root_of_traces / name, (1e9 - age, 1e9 - age))
    lay(root_of_traces / ".half-written.1234.partial")
    (root_of_traces / "a-file-of-notes").write_text("")
    (root_of_traces / "a-folder-of-something").mkdir()
    assert traces.names() == ["newest-trace", "middle-trace", "oldest-trace"]


def test_a_list_opens_no_trace_and_asks_little_of_the_disk(root_of_traces: Path, monkeypatch: pytest.MonkeyPatch):
    """`experiments/bench_lists.py` says how long ten thousand take."""
    for i in range(100):
        lay(root_of_traces / f"trace-{i:06}")
    asked = []
    monkeypatch.setattr(os, "stat", lambda *given, real=os.stat, **more: (asked.append(given), real(*given, **more))[1])
    monkeypatch.setattr(io, "open", lambda *given, **_: pytest.fail(f"a list opened {given}"))
    assert len(traces.names()) == 100
    assert 100 <= len(asked) <= 4 * 100 + 10
