"""A study from beginning to end, as often as it is interrupted."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from probe.errors import OutputError
from probe.study.engine import Executor, Local
from probe.study.job import Work
from probe.study.laid import laid
from probe.study.marks import clear, left_behind
from probe.study.plan import plan
from probe.study.question import RESOLVED, Study
from probe.study.resolve import resolve
from probe.study.results import JOBS, TABLE, Result, Status, count, replace_file, scan, sweep
from probe.study.rows import encode_rows


@dataclass(frozen=True)
class Progress:
    """What a run tells after each job: its result, how many jobs of the study have one, and how many there are."""

    result: Result
    finished: int
    jobs: int


@dataclass(frozen=True)
class Orders:
    """How a study is run, which decides nothing about its results.

    `max_failures`: stop after so many jobs of this run failed. `retry`: do those again that failed before.
    """

    device: str | None = None
    max_failures: int | None = None
    retry: bool = False
    on_job: Callable[[Progress], None] | None = None


def drive(study: Study, executor: Executor | None = None, orders: Orders | None = None) -> Status:
    """Do every job of a study that has no result yet, and return how far it is.

    Finished jobs stay whatever happens, and are not done again. Raises BadInput or BadModel before any work, and
    OutputError when the folder cannot be used.
    """
    orders, folder = orders or Orders(), study.path.expanduser().absolute()
    resolved = resolve(study)
    with _alone(folder):
        sweep(folder)
        jobs = plan(resolved)
        replace_file(folder / RESOLVED, json.dumps(resolved.model_dump(mode="json", exclude={"folder"})).encode())
        results = {key: result for key, result in scan(folder, "hashes").items() if result.holds(study.keep)}
        mine = {job.key: laid(results[job.key], job, resolved) for job in jobs if job.key in results}
        mine = {key: result for key, result in mine.items() if result.state == "done" or not orders.retry}
        for key in left_behind(folder).keys() & mine.keys():
            clear(folder, key)
        left, named = [job for job in jobs if job.key not in mine], {job.key: job for job in jobs}
        try:
            with closing((executor or Local()).run(left, Work(resolved, folder, orders.device))) as running:
                now = (laid(result, named[result.key], resolved) for result in running)
                _follow(now, mine, len(jobs), orders)
        finally:  # interrupted, too: the table says what there is
            rows = [mine[job.key].row for job in jobs if job.key in mine]
            replace_file(folder / TABLE, encode_rows(rows))
    return count(resolved, jobs, mine)


def _follow(running: Iterable[Result], results: dict[str, Result], jobs: int, orders: Orders) -> None:
    """Take in results until there are no more, or too many failures."""
    failures = 0
    for result in running:
        results[result.key] = result
        failures += result.state != "done"
        if orders.on_job is not None:
            orders.on_job(Progress(result, len(results), jobs))
        if orders.max_failures is not None and failures >= orders.max_failures:
            return


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder this run's own while the block runs; the lock ends with the process, however that ends."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check(folder)
        lock.acquire()
    except Timeout as error:
        raise OutputError(f"another run is at work in {folder}: wait for it, or choose another folder") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot use {folder} ({error.strerror}): choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _check(folder: Path) -> None:
    visible = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if visible and not {RESOLVED, JOBS} & set(visible):
        raise OutputError(f"{folder} holds {visible[0]!r} and no study: choose another folder")
