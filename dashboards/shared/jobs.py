"""A page and its job in the worker: put it there, watch it, stop it, and show what became of it."""

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from dashboards.shared import look
from dashboards.shared.generation import worker
from dashboards.shared.worker import Job
from probe.errors import ProbeError

Asked = TypeVar("Asked")
POLL_SECONDS = 0.4
ADDRESS = "job"  # the parameter under which a job stands in the address


def submit(request: Asked, check: Callable[[Asked], Asked], *, key: str) -> None:
    """Put a checked request in the queue, or say why it cannot be."""
    try:
        job = worker().submit(check(request))
    except ProbeError as problem:
        look.trouble("This cannot be drawn as it stands. Nothing was changed; correct it above.", problem)
        return
    st.session_state[key] = st.query_params[ADDRESS] = job.id
    st.rerun()


def current(kind: type, key: str) -> Job | None:
    """The job of this page in this session, or of the address that it was reopened with."""
    found = (worker().job(name) for name in (st.session_state.get(key), st.query_params.get(ADDRESS)))
    return next((job for job in found if job is not None and isinstance(job.request, kind)), None)


def follow(job: Job, show: Callable[[str], None]) -> None:
    """Watch a job that runs; of one that has ended, show what became of it."""
    if job.active:
        st.fragment(watch, run_every=POLL_SECONDS)(job)
    elif job.state == "cancelled":
        st.info("Cancelled. Nothing was saved; your settings are still above.", icon=":material/cancel:")
    elif job.state == "failed":
        look.trouble("This could not be drawn. Your settings are still above.", job.problem)
    else:
        show(job.result)


def watch(job: Job) -> None:
    """How far the job is, and a way to stop it. Reruns the page when it has ended."""
    if not job.active:
        st.rerun(scope="app")
    ahead = worker().ahead(job)
    if job.state == "waiting":
        st.progress(0.0, f"Waiting: {ahead} before you" if ahead else "Waiting for the one that is being drawn")
    elif job.total:
        st.progress(min(1.0, job.step / job.total), f"{job.stage.capitalize()}: step {job.step} of {job.total}")
    else:
        st.progress(0.0, f"{job.stage.capitalize()} …" if job.stage else "Starting …")
    if st.button("Cancel", key="cancel", help="Stops at the next operation; what was drawn so far is dropped."):
        worker().cancel(job)
        job.wait(2.0)
        st.rerun(scope="app")
