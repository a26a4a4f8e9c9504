"""Where jobs run. An executor gets a study's jobs and what to do with them, and knows nothing else of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from itertools import groupby

from probe.study.job import Work
from probe.study.marks import left_behind
from probe.study.plan import Job, identity
from probe.study.quarantine import quarantine
from probe.study.results import Result


class Executor(ABC):
    """Runs jobs: in this process, on a cluster, wherever.

    Every worker calls `work.open()` once and `worker.do(batch)` for each batch; results lie on disk before they are
    yielded, so a worker that dies loses only what it was doing. Whoever closes the generator wants no more jobs done.
    """

    @abstractmethod
    def run(self, jobs: Sequence[Job], work: Work) -> Generator[Result]:
        """Do all jobs, in whatever order, and yield each one's result as it is finished."""


class Local(Executor):
    """In this process, one pipeline at a time.

    Jobs during which an earlier process died come last, in a process of their own: one that dies again is poisoned.
    """

    def run(self, jobs: Sequence[Job], work: Work) -> Generator[Result]:
        suspected = left_behind(work.folder)
        with work.open() as worker:
            for batch in batches([job for job in jobs if job.key not in suspected], work.study.batch, work.group):
                yield from worker.do(batch)
        yield from quarantine([job for job in jobs if job.key in suspected], work)


def batches(jobs: Sequence[Job], size: int, group: Callable[[Job], Hashable]) -> Iterator[list[Job]]:
    """Jobs in batches of one group, each as large as allowed; the order is kept as far as that goes.

    Models are not mixed: all batches of one come before the first of the next.
    """
    for _, some in groupby(jobs, lambda job: identity(job.model)):
        waiting: dict[Hashable, list[Job]] = {}
        for job in some:
            batch = waiting.setdefault(group(job), [])
            batch.append(job)
            if len(batch) == size:
                yield waiting.pop(group(job))
        yield from waiting.values()
