"""One worker for the whole process: jobs wait in a queue and run one after the other, in one thread.

A pipeline is not safe in several threads, so whoever wants one asks here. Jobs are known by their ids alone: they
outlive the browser tab that asked for them, and no session sees another's.
"""

import atexit
import logging
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self

from probe.errors import OverBudget, ProbeError

WAITING_LIMIT, REMEMBERED = 32, 256
CLOSE_SECONDS = 5.0
SWITCH_SECONDS = 0.0005  # a job makes thousands of short calls, and waits this long after each while a page is built
State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):
    """The job was asked to stop."""


@dataclass
class Job:
    """One piece of work. The worker's thread writes it; any session may read it."""

    request: Any
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    stage: str = ""
    step: int = 0
    total: int | None = None
    result: str = ""
    problem: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        """It waits or runs."""
        return self.state in ("waiting", "running")

    def check(self) -> None:
        """Raise Cancelled if the job was asked to stop."""
        if self._stop.is_set():
            raise Cancelled

    def enter(self, stage: str) -> None:
        """A new stage begins, if the job is still wanted."""
        self.check()
        self.stage, self.step, self.total = stage, 0, None

    def advance(self, step: int, total: int | None) -> None:
        """`step` of `total` is done; the job goes on if it is still wanted."""
        self.step, self.total = step, total
        self.check()

    def stop(self) -> None:
        """Ask the job to stop."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; False if it has not."""
        return self._ended.wait(seconds)

    def end(self, state: State, *, problem: str = "") -> None:
        """The job is over."""
        self.problem, self.state = problem, state
        self._ended.set()


class Worker:
    """Runs `work(job)` for one job at a time; what it returns is the job's result."""

    def __init__(self, work: Callable[[Job], str]) -> None:
        self._work = work
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="probe-worker", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def submit(self, request: Any) -> Job:
        """Put a request in the queue. Raises OverBudget when too many wait."""
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= WAITING_LIMIT:
                raise OverBudget(f"{WAITING_LIMIT} requests are waiting already; try again when some are done")
            job = Job(request)
            self._forget()
            self._jobs[job.id] = job
            self._queue.put(job)
        return job

    def job(self, name: str | None) -> Job | None:
        """The job with this id, as long as it is remembered."""
        return self._jobs.get(name or "")

    def ahead(self, job: Job) -> int:
        """How many jobs come before it."""
        with self._lock:
            before = list(self._jobs.values())[: list(self._jobs).index(job.id)] if job.id in self._jobs else []
        return sum(earlier.active for earlier in before)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once if it waits, at its next operation if it runs."""
        job.stop()
        with self._lock:
            if job.state == "waiting":
                job.end("cancelled")

    def close(self) -> None:
        """Stop what runs, drop what waits, and wait a little for the thread to end."""
        for job in list(self._jobs.values()):
            self.cancel(job)
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        while (job := self._queue.get()) is not None:
            with self._lock:
                if job.state != "waiting":
                    continue
                job.state = "running"
            with _Attempt(job):
                job.result = self._work(job)

    def _forget(self) -> None:
        """Drop the oldest ended jobs beyond those that are remembered."""
        ended = [name for name, job in self._jobs.items() if not job.active]
        for name in ended[: max(0, len(self._jobs) - REMEMBERED)]:
            del self._jobs[name]


class _Attempt:
    """Whatever the body raises becomes the end of its job, so that the worker's thread lives on."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._job.end("done")
        elif isinstance(error, Cancelled):
            self._job.end("cancelled")
        else:
            self._job.end("failed", problem=_told(error))
        return True


def _told(error: BaseException) -> str:
    """What went wrong. Errors of `probe` say what to do; of any other the terminal gets the details."""
    if isinstance(error, ProbeError):
        return str(error)
    logging.getLogger("probe").error("a job failed", exc_info=error)
    return f"{type(error).__name__}: {error}\nThe details are in the terminal where the dashboard was started."
