"""What the worker does: load a model, run its own loop under a recording, save the trace."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

import probe
from dashboards.shared import traces
from dashboards.shared.worker import Job, Worker
from probe.errors import BadInput, BadPrompt, NotAPipeline
from probe.explain import needs
from probe.generator.names import own_guidance

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """What one visitor asked for. None means the model's own; `source` None means Menagerie."""

    prompt: str
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    words: tuple[str, ...] | None = None
    source: str | None = None
    methods: tuple[str, ...] = ()  # that the trace is to be recorded for, beside those that need nothing

    def run(self, job: Job, shelf: "Shelf") -> str:
        """Draw it in the worker's thread, and return the id of the saved trace."""
        return generate(job, shelf)


class Shelf:
    """Holds the model that was used last, so that it is loaded once."""

    def __init__(self) -> None:
        self._held: tuple[str | None, Any] | None = None

    def get(self, source: str | None) -> Any:
        """The pipeline of a source; the one before is let go first."""
        if self._held is None or self._held[0] != source:
            self._held = None
            pipe = probe.load(source)
            pipe.set_progress_bar_config(disable=True)
            self._held = (source, pipe)
        return self._held[1]


@st.cache_resource(show_spinner=False)
def worker() -> Worker:
    """The one worker of this process."""
    shelf = Shelf()
    return Worker(lambda job: job.request.run(job, shelf))


def check(request: Request) -> Request:
    """The request, if it can be run at all. Raises BadPrompt or NotAPipeline before anything is loaded."""
    if not request.prompt.strip():
        raise BadPrompt("the prompt is empty. Say what the picture should show, for example: a cat and a red balloon")
    if request.source is not None and not Path(request.source).expanduser().is_dir():
        raise NotAPipeline(
            f"there is no folder {request.source!r} on this machine. "
            "Give the full path of a folder that `save_pretrained` wrote, or leave it empty for Menagerie"
        )
    return request


def generate(job: Job, shelf: Shelf) -> str:
    """Run one request in the worker's thread and return the id of the saved trace."""
    job.enter("loading the model")
    from dashboards.shared.interrupt import Interruptible  # torch is loaded by the first job, not by the page

    request: Request = job.request
    pipe = shelf.get(request.source)
    job.enter("reading the prompt")
    given = arguments(pipe, request, ticker(job))
    inquiries, relations = needs(request.methods)
    wanted = {"explain": [getattr(probe, name)() for name in inquiries], "relations": relations, "wait": LEASE_SECONDS}
    with probe.record(pipe, words=request.words, **wanted) as recording, Interruptible(job.check):
        pipe(**given)
    job.enter("saving the trace")
    return traces.save(probe.decode_thumbnails(recording.trace, pipe))


def ticker(job: Job, stage: str = "drawing") -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """A step callback that says how far the job is, and stops it when it is not wanted any more."""

    def tick(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        total = getattr(pipe, "num_timesteps", None)
        job.stage = stage if step + 1 != total else "finishing the picture"
        job.advance(step + 1, total)
        return tensors

    return tick


def arguments(pipe: Any, request: Request, tick: Callable[..., Any]) -> dict[str, Any]:
    """What the pipeline is called with: only what was given. Raises BadInput for what this pipeline does not take."""
    from torch import Generator

    guidance = own_guidance(request.source) if request.guidance is None else request.guidance
    asked = {"num_inference_steps": request.steps, "guidance_scale": guidance}
    given = {name: value for name, value in asked.items() if value is not None}
    known = inspect.signature(type(pipe).__call__).parameters
    unknown = [name.replace("_", " ") for name in given if name not in known]
    if unknown:
        raise BadInput(f"{type(pipe).__name__} takes no {', '.join(unknown)}. Leave it empty for this model")
    if "callback_on_step_end" in known:
        given["callback_on_step_end"] = tick
    return given | {"prompt": request.prompt, "generator": Generator("cpu").manual_seed(request.seed)}
