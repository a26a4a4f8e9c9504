"""What the worker does for the page Diagnose & nurse: draw plain and nursed from one noise, diagnose and save both."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import streamlit as st

import probe
from dashboards.shared import traces
from dashboards.shared.generation import LEASE_SECONDS, Request, Shelf, arguments, ticker
from dashboards.shared.worker import Job
from probe.intervention import Intervention
from probe.trace import Trace

PLAIN, TOLD = "plain", "diagnosis"  # entries of a trace's extra: the id of the plain run, and what was said


@dataclass(frozen=True)
class Nursing:
    """What one visitor asked for: what to draw, whom to look after, and how. `subjects` None: found in the prompt.

    `settings` are the method's, as text: "strength=0.5; max_steps=10".
    """

    drawn: Request
    method: str
    subjects: tuple[str, ...] | None = None
    settings: str = ""

    def run(self, job: Job, shelf: Shelf) -> str:
        """Draw both in the worker's thread, and return the id of the nursed trace."""
        return nurse(job, shelf)


@st.cache_resource(show_spinner="Looking for methods …")
def methods() -> tuple[str, ...]:
    """Every method, those first that a prompt alone can set up."""
    from probe.study.nursing import all_methods

    return all_methods()


def built(asked: Nursing) -> Intervention:
    """The method with its settings. Raises BadInput for what it does not take, or needs."""
    from probe.study.nursing import nurse_for, settings_of

    return nurse_for(asked.method, asked.drawn.prompt, asked.subjects, settings=settings_of(asked.settings, "Settings"))


def nurse(job: Job, shelf: Shelf) -> str:
    """Both runs, one after the other. What is saved of each says what became of the subjects."""
    from probe.nurse import with_moved

    asked: Nursing = job.request
    job.enter("looking for the subjects")
    method = built(asked)
    job.enter("loading the model")
    pipe = shelf.get(asked.drawn.source)
    runs = {"drawing plain": (), f"nursing with {asked.method}": (method,)}
    plain, nursed = (_drawn(job, pipe, stage, steps) for stage, steps in runs.items())
    job.enter("diagnosing")
    plain, nursed = (_told(trace, asked) for trace in (plain, with_moved(nursed, plain)))
    job.enter("saving the traces")
    name = traces.save(plain)
    return traces.save(replace(nursed, extra=nursed.extra | {PLAIN: name}))


def _drawn(job: Job, pipe: Any, stage: str, interventions: tuple[Intervention, ...]) -> Trace:
    from dashboards.shared.interrupt import Interruptible

    job.enter(stage)
    asked: Nursing = job.request
    given = arguments(pipe, asked.drawn, ticker(job, stage))
    words = ["*", *(asked.subjects or ())]
    recorder = probe.record(pipe, words=words, interventions=interventions, wait=LEASE_SECONDS)
    with recorder as recording, Interruptible(job.check):
        pipe(**given)
    return probe.decode_thumbnails(recording.trace, pipe)


def _told(trace: Trace, asked: Nursing) -> Trace:
    """The trace with what a diagnosis says of it, and how far it is from the plain one."""
    from probe.nurse import how_far

    found = probe.diagnose(trace, asked.subjects, judge=_judge() if asked.drawn.source is None else None)
    far = [how_far(trace)] if "moved" in trace.extra else []
    told = {"sentences": [*found.sentences, *far], "basis": found.basis, "notes": list(found.notes)}
    return replace(trace, extra=trace.extra | {TOLD: told | {"subjects": [f.subject for f in found.findings]}})


@cache
def _judge() -> Any:
    from probe.generator import weights

    return weights.judge()
