"""How a job is done: draw, explain, score, keep. Whatever a job raises becomes its row, and the next one goes on."""

import inspect
import json
import platform
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

from probe.errors import BadInput, BadModel, DamagedFile
from probe.study.call import call, finite
from probe.study.guard import Caught, free, noted
from probe.study.laid import told
from probe.study.marks import at_work
from probe.study.methods import asked, build_intervention, build_scorer, find_explainer, sayable
from probe.study.plan import Job, identity
from probe.study.question import Model, Study
from probe.study.results import Made, Result, State, write
from probe.study.scheduler import scheduled
from probe.study.scorers import Shot

LONGEST = 2000  # characters of a reason
UNREAD = (0,)  # steps that are read where nobody looks at the trace, so that methods cost what they cost


@dataclass(frozen=True)
class Work:
    """All that an executor needs to know beside the jobs: plain data, small enough to send to another machine.

    `study` is resolved; `folder` has to be the same place for every worker.
    """

    study: Study
    folder: Path
    device: str | None = None

    def open(self) -> "Worker":
        """A worker in this process; use it in a `with`."""
        return Worker(self)

    def recorded(self, job: Job) -> bool:
        """Whether this job is made under a recording, which is of one prompt."""
        return not job.plain or bool(self.study.explainers) or "traces" in self.study.keep

    def group(self, job: Job) -> Hashable:
        """Jobs of one group may be done as one batch."""
        return job.key if self.recorded(job) else (identity(job.model), job.steps, job.guidance)


class Worker:
    """Holds one loaded pipeline at a time, and does jobs with it. Its results lie on disk when they are yielded."""

    def __init__(self, work: Work):
        self.work = work
        self._model: Model | None = None
        self._pipe: Any = None
        self._broken: dict[Model, str] = {}
        self._scorers = [(method.name, build_scorer(method)) for method in work.study.scorers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._model = self._pipe = None

    @property
    def default_steps(self) -> int:
        """The steps that the loaded pipeline takes when nothing is said."""
        return inspect.signature(type(self._pipe).__call__).parameters["num_inference_steps"].default

    def do(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Do jobs of one model and one setting, together if there are several; each gives a result, come what may.

        Raises OutputError where the disk refuses a result. A batch that fails is halved, so that one bad job spoils
        no other, and so that memory suffices.
        """
        caught, drawn = Caught(), list[Shot]()
        with at_work(self.work.folder, [job.key for job in jobs]) as finished:
            with caught, noted() as notes:
                drawn = self._draw(jobs)
            if caught.reason is None:
                for job, shot in zip(jobs, drawn, strict=True):
                    yield finished(self._keep(job, shot, notes))
            elif len(jobs) == 1:
                yield finished(self.fail(jobs[0], caught.reason))
        if caught.reason is not None and len(jobs) > 1:
            free()
            half = len(jobs) // 2
            yield from self.do(jobs[:half])
            yield from self.do(jobs[half:])

    def fail(self, job: Job, reason: str, state: State = "failed") -> Result:
        """Keep a row that says why there is no picture."""
        return write(self.work.folder, self._row(job, state=state, reason=reason), Made())

    def _draw(self, jobs: Sequence[Job]) -> list[Shot]:
        if len({self.work.group(job) for job in jobs}) > 1:
            raise BadInput("jobs of several settings cannot be one batch; ask `Work.group` which can")
        pipe = self._load(jobs[0].model)
        given = call(pipe, jobs, self.work.study)
        began = time.monotonic()
        if self.work.recorded(jobs[0]):
            output, trace = self._record(pipe, jobs[0], given)
        else:
            output, trace = pipe(**given), None
        shared = {
            "seconds": (time.monotonic() - began) / len(jobs),
            "steps": getattr(pipe, "num_timesteps", jobs[0].steps or 0),
            "guidance": getattr(pipe, "guidance_scale", jobs[0].guidance),
            "trace": trace,
        }
        pictures = [finite(pixels) for pixels in output[0]]
        return [Shot(job, picture, **shared) for job, picture in zip(jobs, pictures, strict=True)]

    def _record(self, pipe: Any, job: Job, given: Mapping[str, Any]) -> tuple[Any, Any]:
        record = import_module("probe.attach.record").record
        words = None if "traces" in self.work.study.keep else job.row.subjects
        built = build_intervention(job.method, job.method.settings)
        wanted = asked(sayable(self.work.study.explainers, job.method))
        if words is not None and not self.work.study.explainers:
            wanted["steps"] = UNREAD
        with record(pipe, words or None, interventions=() if built is None else (built,), **wanted) as recording:
            output = pipe(**given)
        return output, recording.trace

    def _keep(self, job: Job, shot: Shot, notes: list[str]) -> Result:
        """Explain, score and write; what a scorer raises is the job's failure."""
        caught, values = Caught(), dict[str, Any]()
        began = time.monotonic()
        with caught, noted() as more:
            shot, values = self._explain(shot)
            for name, scorer in self._scorers:
                scores = scorer.score(shot.shown(scorer.reads))
                values |= {f"{name}_{what}": _plain(what, value) for what, value in scores.items()}
        if caught.reason is not None:
            return self.fail(job, caught.reason)
        seconds = shot.seconds + time.monotonic() - began
        row = self._row(job, shot=shot, notes=[*notes, *more], seconds=seconds) | values
        picture = shot.picture if "pictures" in self.work.study.keep else None
        return write(self.work.folder, row, Made(picture, shot.trace if "traces" in self.work.study.keep else None))

    def _explain(self, shot: Shot) -> tuple[Shot, dict[str, Any]]:
        """The shot with a heatmap a subject from each explainer, and their numbers."""
        if not self.work.study.explainers or shot.trace is None:
            return shot, {}
        maps = {}
        for method in sayable(self.work.study.explainers, shot.job.method):
            explain = find_explainer(method)
            maps[method.name] = {s: explain(shot.trace, s, **method.settings) for s in shot.subjects}
        columns = {
            f"{name}_{what}": [float(getattr(heatmap.values, what)()) for heatmap in found.values()]
            for name, found in maps.items()
            for what in ("max", "mean")
        }
        return replace(shot, maps=maps), columns

    def _row(
        self, job: Job, *, shot: Shot | None = None, state: State = "done", reason: str | None = None, **more: Any
    ) -> dict[str, Any]:
        width, height = shot.picture.size if shot else self.work.study.size or (None, None)
        return {
            **told(job, self.work.study),
            "status": state,
            "reason": reason and reason[:LONGEST],
            "steps": shot.steps if shot else job.steps,
            "guidance": shot.guidance if shot else job.guidance,
            "width": width,
            "height": height,
            "device": self.work.device or "cpu",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": json.dumps(versions()),
            "seconds": 0.0,
        } | more

    def _load(self, model: Model) -> Any:
        """The model's pipeline; another one is dropped first."""
        if model in self._broken:
            raise BadModel(self._broken[model])
        if self._model != model:
            if self._pipe is not None:
                self._model = self._pipe = None
                free()
            try:
                self._pipe = self._fetch(model)
            except (BadModel, DamagedFile, BadInput, OSError) as error:
                self._broken[model] = str(error)
                raise
            self._model = model
        return self._pipe

    def _fetch(self, model: Model) -> Any:
        load = import_module("probe.generator.weights").load
        revision = identity(model).partition("@")[2] or None
        return scheduled(load(model.source, revision=revision, device=self.work.device), self.work.study.scheduler)


def versions() -> dict[str, str]:
    """What the results depend on, besides the weights."""
    names = ("diffusion-probe", "torch", "diffusers", "transformers")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str:
    return import_module("probe").__version__ if name == "diffusion-probe" else version(name)


def _plain(name: str, value: Any) -> Any:
    """A value that a table can hold. NaN is one, as it is a result. Raises BadInput."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(name, part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(f"{name} is a {type(value).__name__}; a scorer gives numbers, texts, truth values, or lists of them")
