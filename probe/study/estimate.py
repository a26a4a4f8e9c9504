"""What a study will take: from its own finished jobs, else from two steps of each method on this machine."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from probe.study.job import Work, Worker
from probe.study.plan import Job, identity, plan
from probe.study.question import Study
from probe.study.resolve import resolve
from probe.study.results import PICTURE, Result, Status, count, scan

TRIAL = 2  # steps

Kind = tuple[str, str, int | None]  # model, method, steps


@dataclass(frozen=True)
class Estimate:
    """What is done, and what the jobs that are left will take. `tried`: how many kinds of job had to be tried out.

    `problems` are what went wrong when trying, by method: these jobs will fail.
    """

    status: Status
    seconds: float
    nbytes: int
    tried: int
    problems: dict[str, str]


def estimate(study: Study, device: str | None = None, *, retry: bool = False) -> Estimate:
    """Nothing is written. With `retry`, jobs that failed are to be done. Raises BadInput or BadModel."""
    resolved = resolve(study)
    jobs = plan(resolved)
    found = {key: result for key, result in scan(study.path).items() if result.holds(study.keep)}
    found = {key: result for key, result in found.items() if result.state == "done" or not retry}
    left = [job for job in jobs if job.key not in found]
    known = _measured([(kind(job), found[job.key]) for job in jobs if job.key in found])
    new = {kind(job): job for job in reversed(left) if kind(job) not in known}
    tried = dict(_trials(list(reversed(new.values())), resolved, device)) if new else {}
    costs = known | {name: cost for name, cost in tried.items() if isinstance(cost, tuple)}
    return Estimate(
        status=count(study, jobs, found),
        seconds=sum(costs.get(kind(job), (0.0, 0.0))[0] for job in left),
        nbytes=round(sum(costs.get(kind(job), (0.0, 0.0))[1] for job in left)),
        tried=len(tried),
        problems={name[1]: cost for name, cost in tried.items() if isinstance(cost, str)},
    )


def kind(job: Job) -> Kind:
    """Jobs of one kind take about the same."""
    return identity(job.model), job.method.name, job.steps


def _measured(pairs: Sequence[tuple[Kind, Result]]) -> dict[Kind, tuple[float, float]]:
    """Mean seconds and bytes of finished jobs, by kind."""
    times: dict[Kind, list[tuple[float, int]]] = {}
    for name, result in pairs:
        if result.state == "done":
            times.setdefault(name, []).append((result.seconds, result.nbytes))
    return {name: (fmean(s for s, _ in rows), fmean(b for _, b in rows)) for name, rows in times.items()}


def _trials(jobs: Sequence[Job], study: Study, device: str | None) -> Iterator[tuple[Kind, tuple[float, float] | str]]:
    """Each kind's seconds and bytes, or why it cannot be done."""
    with tempfile.TemporaryDirectory() as folder, Work(study, Path(folder), device).open() as worker:
        for job in jobs:
            yield kind(job), _tried(worker, job)


def _tried(worker: Worker, job: Job) -> tuple[float, float] | str:
    """Two short runs, of which the first warms up and does not count; what cannot be done in two steps is done whole.

    Many a method asks for more steps than that: it watches some first, or acts at one that a short run has not.
    """
    result = [_done(worker, replace(job, steps=TRIAL)) for _ in range(2)][-1]
    if result.state == "done":
        times = (job.steps or worker.default_steps) / TRIAL
        small = result.files[PICTURE][0] if PICTURE in result.files else 0
        return times * result.seconds, small + times * (result.nbytes - small)
    whole = _done(worker, job)
    return (whole.seconds, whole.nbytes) if whole.state == "done" else whole.reason


def _done(worker: Worker, job: Job) -> Result:
    return next(iter(worker.do([job])))
