"""A study's driver is killed at whatever moment: nothing is lost, nothing is done twice, and poison is found."""

import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from probe import Study
from probe.study.marks import left_behind
from probe.study.results import place, scan
from tests.forks import SERVER
from tests.study import moody

Make = Callable[..., Study]
MOODY = f"{moody.__name__}:Moody"
PATIENCE = 120  # seconds


def start(study: Study) -> BaseProcess:
    process = SERVER.Process(target=moody.drive, args=(study.model_dump(mode="json"),))
    process.start()
    return process


def finish(study: Study) -> int | None:
    process = start(study)
    process.join(PATIENCE)
    return process.exitcode


def stamps(study: Study) -> dict[str, int]:
    """Each finished result, and when it was written."""
    return {key: (place(study.path, key) / "manifest.json").stat().st_mtime_ns for key in scan(study.path, "hashes")}


def kill_after(study: Study, results: int, delay: float) -> None:
    """Run until there are so many results, and kill the driver a moment later."""
    process = start(study)
    give_up = time.monotonic() + PATIENCE
    while len(scan(study.path)) < results and process.is_alive():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.join()


@pytest.mark.parametrize("kills", [5, pytest.param(15, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_loses_nothing_and_repeats_nothing(kills: int, small: Make, tmp_path: Path):
    """The last job kills its own process, too: the second time it is poisoned."""
    diary, last = tmp_path / "diary", 4 * kills
    scorer = {"method": MOODY, "diary": str(diary), "seconds": 0.03, "signal": last}
    study = small(prompts=[{"prompt": "a cat", "subjects": ["cat"]}], seeds=f"0-{last}", scorers=[scorer])
    chance, before = random.Random(kills), dict[str, int]()
    for kill in range(kills):
        kill_after(study, 2 * kill + 1, chance.uniform(0, 0.1))
        found = stamps(study)
        assert before.items() <= found.items()  # what was finished stays as it was
        before = found
    assert finish(study) == -9  # all that no process died with is done, then comes the last
    assert before.items() <= stamps(study).items()
    before = stamps(study)
    assert finish(study) == 0
    after, table = stamps(study), study.table()
    assert before.items() <= after.items()
    assert table["seed"].tolist() == list(range(last + 1))
    assert table["status"].tolist() == ["done"] * last + ["poisoned"]
    assert table["reason"][last].startswith("its process died twice while it ran (the second time with signal 9)")
    written = diary.read_text().split()
    assert set(written) == set(after)
    assert len(written) - len(after) <= kills + 1  # only what a kill interrupted was begun anew
    assert left_behind(study.path) == {}
    assert list((study.path / "jobs").rglob(".*")) == []
    assert finish(study) == 0
    assert stamps(study) == after
