"""The worker: one job at a time, in order, each on its own; cancelled promptly; never dead."""

import subprocess
import sys
import threading
import time

import pytest

from dashboards.shared.worker import REMEMBERED, WAITING_LIMIT, Job, Worker
from probe.errors import BadInput, OverBudget

SECONDS = 30


def finished(job: Job) -> Job:
    assert job.wait(SECONDS)
    return job


def test_jobs_run_one_after_the_other_in_their_order():
    running, seen = threading.Semaphore(1), []

    def work(job: Job) -> str:
        assert running.acquire(blocking=False)
        seen.append(job.request)
        time.sleep(0.001)
        running.release()
        return f"{job.request} is done"

    worker = Worker(work)
    jobs = [worker.submit(i) for i in range(20)]
    assert [finished(job).result for job in jobs] == [f"{i} is done" for i in range(20)]
    assert seen == list(range(20))
    assert {job.state for job in jobs} == {"done"}


def test_sessions_in_many_threads_never_mix():
    worker = Worker(lambda job: f"made for {job.request}")
    wrong: list[str] = []

    def session(name: str) -> None:
        for i in range(25):
            job = worker.submit(f"{name}/{i}")
            if finished(job).result != f"made for {name}/{i}":
                wrong.append(job.result)

    threads = [threading.Thread(target=session, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert wrong == []


def test_a_failure_is_told_and_the_worker_lives_on():
    def work(job: Job) -> str:
        if job.request == "bad":
            raise BadInput("'owl' is not in the prompt; it has: cat")
        return "fine"

    worker = Worker(work)
    bad, good = worker.submit("bad"), worker.submit("good")
    assert (finished(bad).state, bad.problem) == ("failed", "'owl' is not in the prompt; it has: cat")
    assert (finished(good).state, good.result) == ("done", "fine")


def test_an_unforeseen_failure_is_named_and_written_to_the_log(caplog: pytest.LogCaptureFixture):
    def work(job: Job) -> str:
        raise ZeroDivisionError("division by zero")

    job = finished(Worker(work).submit(None))
    assert job.problem.startswith("ZeroDivisionError: division by zero\nThe details are in the terminal")
    assert "a job failed" in caplog.text


def test_cancelling_a_running_job_frees_the_worker_at_its_next_check():
    begun = threading.Event()

    def work(job: Job) -> str:
        while job.request == "endless":
            begun.set()
            job.check()
            time.sleep(0.001)
        return "after it"

    worker = Worker(work)
    endless, next_one = worker.submit("endless"), worker.submit("short")
    assert begun.wait(SECONDS)
    worker.cancel(endless)
    assert finished(endless).state == "cancelled"
    assert finished(next_one).result == "after it"


def test_cancelling_a_waiting_job_means_that_it_never_runs():
    gate, seen = threading.Event(), []

    def work(job: Job) -> str:
        seen.append(job.request)
        gate.wait(SECONDS)
        return ""

    worker = Worker(work)
    first, second, third = (worker.submit(name) for name in ("first", "second", "third"))
    assert worker.ahead(third) == 2
    worker.cancel(second)
    assert second.state == "cancelled"
    assert worker.ahead(third) == 1
    gate.set()
    assert finished(first).state == finished(third).state == "done"
    assert seen == ["first", "third"]


def test_closing_stops_what_runs_and_drops_what_waits():
    begun = threading.Event()

    def work(job: Job) -> str:
        while True:
            begun.set()
            job.check()

    worker = Worker(work)
    running, waiting = worker.submit(1), worker.submit(2)
    assert begun.wait(SECONDS)
    worker.close()
    assert (running.state, waiting.state) == ("cancelled", "cancelled")


def test_a_server_that_is_stopped_while_it_works_ends_in_order():
    code = (
        "import time; from dashboards.shared.worker import Worker\n"
        "def work(job):\n    print('begun', flush=True)\n    while True: job.check(); time.sleep(0.001)\n"
        "Worker(work).submit(None); time.sleep(0.5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n", "")


def test_too_many_waiting_are_refused():
    gate = threading.Event()

    def work(job: Job) -> str:
        gate.wait(SECONDS)
        return ""

    worker = Worker(work)
    with pytest.raises(OverBudget, match=f"{WAITING_LIMIT} requests are waiting already; try again"):
        for _ in range(WAITING_LIMIT + 2):
            worker.submit(None)
    gate.set()


def test_old_jobs_are_forgotten_and_unknown_ones_are_none():
    worker = Worker(lambda job: "")
    first = finished(worker.submit(0))
    for i in range(REMEMBERED + 5):
        finished(worker.submit(i))
    assert worker.job(first.id) is None
    assert worker.job(None) is None
    assert worker.job("../../etc/passwd") is None


def test_a_job_gets_its_turn_soon_while_pages_are_built():
    finished(Worker(lambda job: "").submit(None))
    assert sys.getswitchinterval() <= 0.001
