"""From a study to its jobs. Pure: the same study has the same jobs with the same keys, on every machine."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from probe.errors import BadInput, OverBudget
from probe.study.prompts import PromptRow
from probe.study.question import PLAIN, Method, Model, Study
from probe.study.recorded import decisive
from probe.words.segment import key as spelling
from probe.words.segment import labels, segment

SCHEMA = 1  # of what a job means and leaves behind; it is part of every key
MOST = 1_000_000  # jobs of one study


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make. `method` has its settings for this very prompt; `key` names all that decides the result."""

    key: str
    row: PromptRow
    seed: int
    model: Model
    method: Method
    steps: int | None
    guidance: float | None

    @property
    def plain(self) -> bool:
        """Whether nothing intervenes."""
        return self.method.method == PLAIN


def plan(study: Study) -> tuple[Job, ...]:
    """The jobs: model by model, in the study's order, each once. Raises OverBudget beyond a million, BadInput."""
    rows = study.rows
    axes = (study.models, study.steps, study.guidance, rows, study.interventions, study.seeds)
    if prod(map(len, axes)) > MOST:
        sizes = " x ".join(str(len(axis)) for axis in axes)
        raise OverBudget(f"{sizes} are {prod(map(len, axes)):,} jobs, at most {MOST:,} fit in a study; split it")
    jobs = {job.key: job for job in _jobs(study, rows)}.values()
    return tuple(jobs if study.order == "settings" else _seed_by_seed(jobs, study))


def _jobs(study: Study, rows: tuple[PromptRow, ...]) -> Iterator[Job]:
    asked = [[_asked(method, row) for method in study.interventions] for row in rows]
    for model, count, scale in product(study.models, study.steps, study.guidance):
        steps = model.own.steps if count is None else count
        guidance = model.guidance if scale is None else scale
        one = {**_shared(study, model), "steps": steps, "guidance": guidance}
        for row, method in ((row, method) for row, methods in zip(rows, asked, strict=True) for method in methods):
            start = _digest({**one, **_said(row), **_read(row, study.columns), **_done(method)})
            for seed in study.seeds:
                yield Job(key(start, seed), row, seed, model, method, steps, guidance)


def check_apart(study: Study) -> None:
    """Raises BadInput where two rows would be one job: its result would be under the columns of one of them."""
    axes = {name: getattr(study, name)[:1] for name in ("models", "steps", "guidance", "seeds")}
    seen: dict[str, Job] = {}
    for job in _jobs(study.model_copy(update=axes), study.rows):
        other, mine = seen.setdefault(job.key, job).row.columns, job.row.columns
        apart = sorted(name for name in other | mine if other.get(name) != mine.get(name))
        if apart:
            raise BadInput(
                f"two rows of the prompt {job.row.prompt!r} differ in {', '.join(apart)} only, which decides nothing "
                f"of {job.method.name!r}: they would be one job; leave one out, or move it to a study of its own"
            )


def _seed_by_seed(jobs: Iterable[Job], study: Study) -> list[Job]:
    """All jobs of a model at one seed before those at its next."""
    models, seeds = ({each: i for i, each in enumerate(some)} for some in (study.models, study.seeds))
    return sorted(jobs, key=lambda job: (models[job.model], seeds[job.seed]))


def key(start: str, seed: int) -> str:
    """32 hexadecimal digits for one seed of what `start` stands for."""
    return hashlib.blake2b(f"{start}/{seed}".encode(), digest_size=16).hexdigest()


def identity(model: Model) -> str:
    """What stands for a model in a key: the digest of its weights, else its name."""
    return model.digest or f"{model.source}@{model.revision}"


def _shared(study: Study, model: Model) -> dict[str, Any]:
    """What decides the result of every job of a model alike. The order of scorers and explainers does not.

    What the model would take anyway is as good as left out.
    """
    said = {"size": study.size, "negative": study.negative, "scheduler": study.scheduler}
    asked = {name: None if value == getattr(model.own, name) else value for name, value in said.items()}
    named = {"explainers": study.explainers, "scorers": study.scorers}
    columns = {what: sorted(_canonical(_columns(m)) for m in methods) for what, methods in named.items()}
    return {"schema": SCHEMA, **asked, **columns, **_weights(model)}


def _weights(model: Model) -> dict[str, Any]:
    """The model's weights, and those that judge it where it does not bring them itself."""
    return {"model": identity(model), **({"judge": model.judge} if model.judge else {})}


def _said(row: PromptRow) -> dict[str, Any]:
    return {"prompt": row.prompt, "subjects": list(row.subjects or ()), "attributes": list(row.attributes or ())}


def _read(row: PromptRow, columns: tuple[str, ...]) -> dict[str, Any]:
    """Further columns of a row decide what a scorer says that reads them, and nothing else."""
    found = row.model_dump(mode="json", include=set(columns)) if columns else {}
    return {"columns": found} if found else {}


def _done(method: Method) -> dict[str, Any]:
    return {"method": method.method, "settings": decisive(method.settings)}


def _columns(method: Method) -> dict[str, Any]:
    """Explainers and scorers name their columns, so their names are part of the result."""
    return {"name": method.name, **_done(method)}


def _asked(method: Method, row: PromptRow) -> Method:
    """The method with its settings for this prompt."""
    if not refers(method.settings):
        return method
    settings = settle(method.settings, references(row), row)
    return Method(method=method.method, label=method.label, **settings)


def refers(value: Any) -> bool:
    """Whether a setting, or a part of it, stands for something of the prompt's row."""
    if isinstance(value, Mapping):
        return any(map(refers, value.values()))
    if isinstance(value, list | tuple):
        return any(map(refers, value))
    return isinstance(value, str) and value.startswith("$")


def settle(value: Any, known: Mapping[str, Any], row: PromptRow) -> Any:
    """The value with every "$name" replaced. Raises BadInput for a name that the row does not have."""
    if isinstance(value, Mapping):
        return {name: settle(part, known, row) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [settle(part, known, row) for part in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value[1:] not in known:
        there = ", ".join(f"${name}" for name in known)
        raise BadInput(f"{value!r} stands for nothing in the prompt {row.prompt!r}; it has {there}")
    return known[value[1:]]


def references(row: PromptRow) -> dict[str, Any]:
    """What "$name" may stand for, words by the labels that they have in the prompt."""
    subjects = list(row.subjects or ())
    marks = attribute_labels(row)
    bound = {subject: [mark] if mark else [] for subject, mark in zip(subjects, marks, strict=True)}
    return {
        "subjects": subjects,
        "attributes": {subject: mark for subject, mark in zip(subjects, marks, strict=True) if mark},
        "bindings": bound,
        "groups": [[*bound[subject], subject] for subject in subjects],
        **row.columns,
    }


def attribute_labels(row: PromptRow) -> list[str | None]:
    """The label of each subject's attribute: of "a red car and a red bow", red and red#2."""
    texts = [row.prompt[slice(*span)] for span in segment(row.prompt)]
    named = labels(texts)
    attributes = row.attributes or (None,) * len(row.subjects or ())
    seen: Counter[str] = Counter()
    found: list[str | None] = []
    for attribute in attributes:
        same = [label for text, label in zip(texts, named, strict=True) if spelling(text) == spelling(attribute or "")]
        found.append(same[min(seen[attribute], len(same) - 1)] if attribute and same else attribute)
        seen[attribute or ""] += 1
    return found


def _digest(value: Any) -> str:
    return hashlib.blake2b(_canonical(value).encode(), digest_size=16).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
