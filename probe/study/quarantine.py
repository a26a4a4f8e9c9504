"""Jobs during which a process died are tried once more, each alone in a process of its own.

A study that was killed from outside loses nothing by it: the job is simply done. A job that kills this process too
(out of memory, a crash in a library) is poisoned: it gets a row, and the study goes on. Run as a module this is that
process; it ends when its parent does, however that ends.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from probe.errors import RecordingError
from probe.study.guard import free
from probe.study.job import Work
from probe.study.marks import clear, left_behind, suspect
from probe.study.plan import Job, plan
from probe.study.question import Study
from probe.study.results import Result, look

POISONED = "its process died twice while it ran (the second time with {code}): out of memory, or a crash in a library"


def quarantine(jobs: Sequence[Job], work: Work) -> Generator[Result]:
    """Do the jobs one by one in a process of their own, and in another one after each that kills it."""
    left = list(jobs)
    if left:
        free()  # the pipeline that was used so far
    while left:
        with tempfile.TemporaryFile() as said:
            process, code = _attend(work, [job.key for job in left], said)
            marks = left_behind(work.folder)
            dead = next((i for i, job in enumerate(left) if code and marks.get(job.key) == process), None)
            if code and dead is None:
                raise RecordingError(f"the process for jobs that had died ended with {_ending(code)}: {_tail(said)}")
        yield from filter(None, (look(work.folder, job.key) for job in left[:dead]))
        if dead is not None:
            yield _poison(left[dead], work, POISONED.format(code=_ending(code)))
        left = [] if dead is None else left[dead + 1 :]


def _poison(job: Job, work: Work, reason: str) -> Result:
    with work.open() as worker:
        result = worker.fail(job, reason, "poisoned")
    clear(work.folder, job.key)
    return result


def _attend(work: Work, keys: list[str], said: IO[bytes]) -> tuple[int, int]:
    """Start the process, wait for its end, and return its id and exit code. Ended here, it ends there."""
    suspect(work.folder, keys)
    given = json.dumps({"folder": str(work.folder), "device": work.device, "keys": keys}).encode() + b"\n"
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-m", "probe.study.quarantine"],
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=said,
        env=os.environ | {"PYTHONPATH": paths},
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(given)
            process.stdin.flush()  # and stays open: its end tells that this process has ended
            return process.pid, process.wait()
        except BrokenPipeError:
            return process.pid, process.wait()
        finally:
            process.kill()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _tail(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace").strip()[-500:] or "it said nothing"


def main() -> int:
    """What the process does: the jobs that its first line of input names."""
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    study = Study.open(given["folder"])
    jobs = {job.key: job for job in plan(study)}
    with Work(study, Path(given["folder"]), given["device"]).open() as worker:
        for key in given["keys"]:
            list(worker.do([jobs[key]]))
    return 0


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
