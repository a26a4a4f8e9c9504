"""A study's driver is killed at whatever moment: nothing is lost, nothing is done twice, and poison is found."""

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from probe import Study
from probe.study.marks import left_behind
from probe.study.results import place, scan
from tests.study import moody

Make = Callable[..., Study]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "probe.study.drive"])
MOODY = f"{moody.__name__}:Moody"
PATIENCE = 120  # seconds


def drive(said: dict[str, Any]) -> None:
    """What the driver's process does."""
    Study(**said).run()


def start(study: Study) -> BaseProcess:
    process = SERVER.Process(target=drive, args=(study.model_dump(mode="json"),))
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


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_loses_nothing_and_repeats_nothing(kills: int, small: Make, tmp_path: Path):
    diary = tmp_path / "diary"
    scorer = {"method": MOODY, "diary": str(diary), "seconds": 0.05}
    study = small(seeds=f"0-{2 * kills + 3}", scorers=[scorer], batch=2)
    chance = random.Random(kills)
    before: dict[str, int] = {}
    for kill in range(kills):
        kill_after(study, 2 * kill + 1, chance.uniform(0, 0.3))
        found = stamps(study)
        assert before.items() <= found.items()  # what was finished stays as it was
        before = found
    assert finish(study) == 0
    after = stamps(study)
    assert before.items() <= after.items()
    assert len(after) == 2 * kills + 4
    table = study.table()
    assert table["status"].tolist() == ["done"] * len(after)
    assert table["seed"].tolist() == list(range(2 * kills + 4))
    written = diary.read_text().split()
    assert set(written) == set(after)
    assert len(written) - len(after) <= kills  # only what a kill interrupted was begun anew
    assert left_behind(study.path) == {}
    hidden = [path for path in (study.path / "jobs").rglob(".*")]
    assert hidden == []


def test_a_job_that_kills_its_process_twice_is_poisoned_and_the_rest_goes_on(small: Make):
    study = small(seeds="0-3", scorers=[{"method": MOODY, "label": "moody", "signal": 1}])
    assert finish(study) == -9
    assert study.status().done == 1
    assert finish(study) == 0
    table = study.table()
    assert table["status"].tolist() == ["done", "poisoned", "done", "done"]
    assert table["reason"][1].startswith("its process died twice while it ran (the second time with signal 9)")
    before = stamps(study)
    assert finish(study) == 0
    assert stamps(study) == before
