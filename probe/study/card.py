"""A study's card: what was asked, with what, what came out, and what it does not show. Markdown."""

import json
from collections.abc import Iterable, Sequence

import pandas as pd

from probe.study.plan import identity
from probe.study.question import RESOLVED, Method, Model, Study
from probe.study.results import Status, clock, status, table
from probe.study.rows import COLUMNS

SHOWN = 5  # prompts
LIMITS = """\
- The numbers hold for these models, prompts and seeds. Another model may do otherwise.
- Scorers err. A judge or a CLIP model sees what it was trained to see; its own error is part of every number here.
- All methods share prompts and seeds, so compare them pair by pair; the means carry no interval.
- Jobs that failed have no picture and are in no mean. A method that fails often looks better than it is.
- Where attention was explained: it shows where information could flow, which is no proof of a cause."""


def card(study: Study) -> str:
    """The card of a resolved study."""
    found, rows = status(study), table(study)
    parts = [
        f"# {study.name}",
        _plain(study.question) or "(no question was written down)",
        "## What was asked",
        "\n".join(f"- {name}: {value}" for name, value in _asked(study)),
        "## What came out",
        _outcome(found),
        means(rows),
        "## What it does not show",
        LIMITS,
        "## How to run it again",
        _again(study, rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _asked(study: Study) -> Iterable[tuple[str, str]]:
    prompts = [row.prompt for row in study.rows]
    more = f" and {len(prompts) - SHOWN} more" if len(prompts) > SHOWN else ""
    yield f"{len(prompts)} prompts", "; ".join(map(_code, prompts[:SHOWN])) + more
    yield f"{len(study.seeds)} seeds", _runs(study.seeds)
    yield "models", "; ".join(_model(model, open_scale=None in study.guidance) for model in study.models)
    for what, methods in (("interventions", study.interventions), ("explainers", study.explainers)):
        if methods:
            yield what, "; ".join(map(_method, methods))
    yield "scorers", "; ".join(map(_method, study.scorers)) or "none"
    yield "steps", _values(study.steps)
    yield "guidance", _values(study.guidance)
    yield "size", "the model's own" if study.size is None else f"{study.size[0]} x {study.size[1]}"
    yield "scheduler", study.scheduler or "the model's own"
    if study.negative is not None:
        yield "negative prompt", _code(study.negative)


def _outcome(found: Status) -> str:
    counts = {"done": found.done, "failed": found.failed, "poisoned": found.poisoned, "still to do": found.left}
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    time = f" {clock(found.seconds)} a job." if found.seconds is not None else ""
    reasons = [f"- {count:,} x {_code(reason)}" for reason, count in found.reasons.items()]
    return "\n".join([f"{found.jobs:,} jobs: {said}.{time}", *reasons])


def means(rows: pd.DataFrame, by: str = "method") -> str:
    """The mean of every numeric or truth-valued score, by method, as a Markdown table."""
    done = rows[rows["status"] == "done"]
    names = [name for name in done.columns if name not in COLUMNS or name == "seconds"]
    columns = {str(name): pd.Series(done[name]) for name in names}
    numbers = {name: pd.to_numeric(column, errors="coerce") for name, column in columns.items() if _numeric(column)}
    if not numbers:
        return ""
    grouped = pd.DataFrame({by: done[by], **numbers}).groupby(by, sort=False)
    head = [by, "jobs", *numbers]
    lines = [
        [_plain(str(name)), str(len(group)), *(f"{group[column].mean():.3g}" for column in numbers)]
        for name, group in grouped
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _numeric(column: pd.Series) -> bool:
    kinds = {type(value) for value in column.dropna()}
    return bool(kinds) and kinds <= {bool, int, float}


def _again(study: Study, rows: pd.DataFrame) -> str:
    devices = ", ".join(sorted(set(rows["device"].dropna()))) or "none yet"
    versions = {text: json.loads(text) for text in rows["versions"].dropna().unique()}
    with_what = [", ".join(f"{name} {number}" for name, number in found.items()) for found in versions.values()]
    command = f"    probe study run {study.path / RESOLVED}"
    return "\n".join([f"- made on: {devices}", *(f"- with: {line}" for line in with_what), "", command])


def _model(model: Model, *, open_scale: bool) -> str:
    scale = f", guidance {model.guidance:g}" if open_scale and model.guidance is not None else ""
    return f"{_code(model.name)} ({_code(identity(model))}{scale})"


def _method(method: Method) -> str:
    settings = json.dumps(method.settings, sort_keys=True) if method.settings else ""
    label = f"{_plain(method.label)}: " if method.label else ""
    return label + method.method + (f" {_code(settings)}" if settings else "")


def _values(values: Sequence[float | None]) -> str:
    return ", ".join("the model's own" if value is None else f"{value:g}" for value in values)


def _runs(seeds: Sequence[int]) -> str:
    """0-3, 8: numbers in a row as one range."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _code(text: str) -> str:
    """Text that Markdown leaves alone."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _plain(text: str) -> str:
    """Text of people's own, without what Markdown or HTML would act on."""
    return "".join(c if c not in "<>[]|`*_!#" else f"&#{ord(c)};" for c in " ".join(text.split()))
