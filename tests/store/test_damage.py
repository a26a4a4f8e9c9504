"""Damage of any kind is noticed, and only DamagedFile is raised."""

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.errors import DamagedFile
from probe.store import Report, open_trace, verify
from probe.trace import Trace
from tests.factories import make_small_trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return make_small_trace()


@pytest.fixture(scope="module")
def folder(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trace.save(tmp_path_factory.mktemp("damage") / "t")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_all(folder: Path) -> None:
    for node in open_trace(folder).tree.subtree:
        node.load()


def spoil(path: Path, change: Callable[[bytes], bytes], folder: Path) -> tuple[Report, str]:
    """Change a file, look at the folder, put the file back: what `verify` found, and what plain reading raised."""
    data = path.read_bytes()
    path.write_bytes(change(data))
    try:
        report = verify(folder)
        try:
            read_all(folder)
        except DamagedFile as error:
            return report, str(error)
        return report, ""
    finally:
        path.write_bytes(data)


def flip(bit: int) -> Callable[[bytes], bytes]:
    return lambda data: data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def flips(folder: Path, count: int) -> None:
    rng = random.Random(count)
    paths = files(folder)
    by_size = [path.stat().st_size for path in paths]
    for i in range(count):
        path = rng.choice(paths) if i % 2 else rng.choices(paths, by_size)[0]
        bit = rng.randrange(8 * path.stat().st_size)
        report, error = spoil(path, flip(bit), folder)
        assert not report.ok, f"bit {bit} of {path} was not noticed by verify"
        assert error, f"bit {bit} of {path} was not noticed by reading"


@pytest.mark.parametrize("count", [300, pytest.param(1700, marks=pytest.mark.slow)])  # together 2000, of other draws
def test_every_flipped_bit_is_noticed(folder: Path, count: int) -> None:
    flips(folder, count)
    assert verify(folder).ok


def test_every_truncation_is_noticed(folder: Path) -> None:
    rng = random.Random(0)
    for _ in range(30):
        path = rng.choice(files(folder))
        length = rng.randrange(path.stat().st_size)
        report, error = spoil(path, lambda data, length=length: data[:length], folder)
        assert not report.ok and error, f"{path} cut to {length} bytes was not noticed"


def test_every_missing_file_is_noticed(folder: Path) -> None:
    for path in files(folder):
        data = path.read_bytes()
        path.unlink()
        report = verify(folder)
        with pytest.raises(DamagedFile, match=r"missing|no manifest"):
            open_trace(folder)
        path.write_bytes(data)
        assert not report.ok, f"{path} missing was not noticed"
    assert verify(folder).ok


def test_a_report_names_every_problem(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    whole = verify(copy)
    assert whole.ok and whole.files == len(files(copy)) and "as written" in str(whole)
    (copy / "pictures/0.png").unlink()
    (copy / "tables/words.parquet").write_bytes(b"short")
    (copy / "notes.txt").write_text("mine")
    sites = copy / "tables/sites.parquet"
    sites.write_bytes(flip(99)(sites.read_bytes()))
    report = verify(copy)
    said = str(report)
    assert len(report.problems) == 4 and "DAMAGED, 4 problems" in said
    for part in (
        "0.png is missing",
        "words.parquet has 5 bytes, expected",
        "notes.txt is not in",
        "sites.parquet does not",
    ):
        assert part in said


def test_a_stray_file_among_the_arrays_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "notes.txt").write_text("mine")
    open_trace(copy)
    (copy / "arrays.zarr/latents/latents/c.9").write_bytes(b"foreign")
    with pytest.raises(DamagedFile, match=r"c\.9 is not in the manifest"):
        open_trace(copy)


def test_damage_after_opening_spares_the_other_arrays(folder: Path, tmp_path: Path, trace: Trace) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    found = open_trace(copy)
    [shard] = (copy / "arrays.zarr/latents/latents").glob("c.*")
    shard.write_bytes(flip(321)(shard.read_bytes()))
    with pytest.raises(DamagedFile, match=r"latents/latents cannot be read.*copy it again"):
        found.node("latents")["latents"].load()
    assert found.node("latents")["predicted"].identical(trace.node("latents")["predicted"])


@pytest.mark.parametrize("name", ["nowhere", "file", "a\0b", "x" * 300])
def test_what_is_no_trace_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DamagedFile, match=r"not a finished trace|cannot read"):
        open_trace(tmp_path / name)
    report = verify(tmp_path / name)
    assert not report.ok and not report.is_trace and str(report).startswith(f"{tmp_path / name}: not a trace\n")


def test_a_report_counts_in_words(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "pictures/0.png").unlink()
    assert "DAMAGED, 1 problem (" in str(verify(copy))
    (copy / "manifest.json").write_text("{}")
    cut = verify(copy)
    assert cut.is_trace and "DAMAGED, 1 problem (" in str(cut)
    (copy / "manifest.json").unlink()
    assert re.search(r": not a trace\n  .* holds no manifest\.json", str(verify(copy)))
