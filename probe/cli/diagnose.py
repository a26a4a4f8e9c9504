"""`probe diagnose`: one picture a seed, and what became of every subject in each."""

import inspect
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

import probe
from probe.cli import output, say
from probe.cli.drawing import check_prompt, generate, load
from probe.cli.parser import diagnose_options
from probe.cli.values import seeds as seeds_of
from probe.cli.values import split

if TYPE_CHECKING:
    from probe.nurse.diagnosis import Diagnosis

MENAGERIE = (None, "menagerie", "menagerie-control")  # what the judge can tell of


def run(options: Namespace) -> int:
    """Everything is checked that can be before the model is loaded; a folder appears whole or not at all."""
    check_prompt(options.prompt, "diagnose")
    seeds = seeds_of(options.seeds)
    target = output.target_if_given(options, options.prompt)
    with output.folder_if_given(target, options, diagnose_options) as work:
        found = _diagnose(options, seeds, work)
        if work is not None:
            _write(found, work)
    _sum_up(found)
    if target is not None:
        say.result(f"  {target}  pictures, table.csv, and the settings to repeat it")
    return 0


def judge_of(options: Namespace) -> Any | None:
    """The judge of --judge; else Menagerie's for Menagerie's pictures, and of other models nobody here can tell.

    Raises BadInput for what is none.
    """
    from probe.generator import weights
    from probe.nurse.diagnosis_outside import checked
    from probe.study.methods import brought

    if options.judge is None:
        return weights.judge() if options.model in MENAGERIE else None
    found = brought(options.judge, "judge")
    return checked(found() if isinstance(found, type) else found)


def watched(subjects: Sequence[str]) -> list[str]:
    """What to record for a diagnosis: every word, so that attention can be sharpened, and phrases that were named."""
    return ["*", *subjects]


def explained(pipe: Any, options: Namespace) -> tuple[Any, ...]:
    """Relevancy and leaving words out, at the step that a diagnosis weighs; with --until, before it."""
    from probe.nurse.diagnose import telling_step

    usual = inspect.signature(type(pipe).__call__).parameters["num_inference_steps"].default
    step = telling_step(options.steps or usual) or 0
    at = step if options.until is None else min(step, options.until - 1)
    return probe.Relevancy(steps=(at,)), probe.LeaveOneOut(steps=(at,))


def _diagnose(options: Namespace, seeds: Sequence[int], work: Path | None) -> dict[int, "Diagnosis"]:
    """One after the other, each said as soon as it is known."""
    from probe.nurse.diagnose import steps_ahead

    judge, subjects = judge_of(options), split(options.subjects)
    pipe = load(options)
    inquiries = explained(pipe, options) if options.explain else ()
    found = {}
    for seed in seeds:
        own = Namespace(vars(options) | {"seed": seed})
        trace = generate(pipe, own, words=watched(subjects), explain=inquiries, label=f"seed {seed}")
        ahead = steps_ahead(trace, options.until) if judge is not None else []
        if ahead:
            trace = probe.decode_thumbnails(trace, pipe, steps=ahead, cells=None)
        found[seed] = probe.diagnose(trace, subjects or None, judge=judge, until=options.until)
        say.result("\n  ".join([f"seed {seed}", *found[seed].sentences]))
        if work is not None:
            trace.pictures[0].save(work / f"seed-{seed}.png")
    return found


def _write(found: dict[int, "Diagnosis"], work: Path) -> None:
    import pandas as pd

    tables = [diagnosis.table().assign(seed=seed) for seed, diagnosis in found.items()]
    pd.concat(tables).to_csv(work / "table.csv", index=False)


def _sum_up(found: dict[int, "Diagnosis"]) -> None:
    """How often each subject got each verdict, and what that rests on."""
    several, last = len(found), next(reversed(found.values()))
    for finding in last.findings:
        counted = Counter(diagnosis[finding.subject].verdict for diagnosis in found.values())
        told = ", ".join(f"{verdict} in {count} of {several}" for verdict, count in counted.most_common())
        say.result(f"{finding.subject}: {told}")
    say.result(last.basis)
    for note in last.notes:
        say.aside(f"note: {note}")
