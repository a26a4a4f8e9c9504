"""`probe study`: run a question that is written down as data; look at how far it is and at what came out."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import Progress as Bar

from probe.cli import say
from probe.cli.drawing import BAR
from probe.errors import BadInput

if TYPE_CHECKING:
    from probe.study import Study
    from probe.study.drive import Progress
    from probe.study.estimate import Estimate
    from probe.study.results import Status

DONE, FAILED, INTERRUPTED = 0, 1, 130


def run(options: Namespace) -> int:
    """Run the subcommand that was asked for."""
    return VERBS[options.verb](options[options.verb])


def run_study(options: Namespace) -> int:
    """0 if every job is done, 1 if some failed or are left, 130 if interrupted."""
    from probe.study import Study

    study = Study.read(options.study)
    if options.out is not None:
        study = study.model_copy(update={"folder": options.out})
    if options.dry_run:
        return _announce(study, options)
    try:
        orders = {"max_failures": options.max_failures, "retry": options.retry}
        status = follow(study, device=options.device, **orders)
    except KeyboardInterrupt:
        say.interrupted(study.path)
        return INTERRUPTED
    say.result(status)
    say.result(f"  {study.path / 'table.parquet'}  one row per job; or: probe study table {study.path}")
    return DONE if status.ok else FAILED


def status(options: Namespace) -> int:
    """How far a study is; 1 if jobs failed."""
    from probe.study.results import status as found

    status = found(_open(options.study), depth="everything" if options.verify else "sizes")
    say.result(status)
    return FAILED if status.failed or status.poisoned else DONE


def table(options: Namespace) -> int:
    """The table as CSV for the eye, or into a file."""
    from probe.study.rows import as_json, as_words, flat

    rows = _open(options.study).table()
    if options.to is None:
        say.result(flat(rows, as_words).to_csv(index=False).rstrip("\n"))
    elif options.to.endswith(".parquet"):
        rows.to_parquet(options.to, index=False)
    elif options.to.endswith(".csv"):
        flat(rows, as_json).to_csv(options.to, index=False)
    else:
        raise BadInput(f"--to {options.to!r} ends in neither .csv nor .parquet; give a file that does")
    return DONE


def card(options: Namespace) -> int:
    """The card, in Markdown."""
    say.result(_open(options.study).card().rstrip("\n"))
    return DONE


VERBS: dict[str, Callable[[Namespace], int]] = {"run": run_study, "status": status, "table": table, "card": card}


def _open(given: str) -> "Study":
    """The study of a folder of results, or of a study's file. Raises BadInput."""
    from probe.study import Study

    path = Path(given).expanduser()
    return Study.open(path if path.is_dir() else Study.read(path).path)


def follow(study: "Study", **orders: Any) -> Any:
    """`Study.run` under a bar that counts jobs, failures and the time that is left."""
    with Bar(*BAR, console=Console(stderr=True)) as bar:
        task, failures = bar.add_task(study.name, total=None), 0

        def show(progress: "Progress") -> None:
            nonlocal failures
            failures += progress.result.state != "done"
            named = f"{study.name}, {failures} failed" if failures else study.name
            bar.update(task, total=progress.jobs, completed=progress.finished, description=named)
            if progress.result.state != "done":
                say.aside(f"{progress.result.state}: {progress.result.reason}")

        return study.run(on_job=show, **orders)


def _announce(study: "Study", options: Namespace) -> int:
    """What a run would do and take; nothing is written. 1 if jobs failed before, or will."""
    from probe.study.estimate import estimate
    from probe.study.results import clock

    found: Estimate = estimate(study, options.device, retry=options.retry)
    axes = {
        "prompts": len(study.rows),
        "seeds": len(study.seeds),
        "models": len(study.models),
        "interventions": len(study.interventions),
        "steps": len(study.steps),
        "guidance": len(study.guidance),
    }
    grid = " x ".join(f"{count} {name}" for name, count in axes.items() if count > 1 or name in ("prompts", "seeds"))
    basis = f"{found.tried} kinds tried with two steps" if found.tried else "as the finished jobs took"
    say.result(f"{study.name}: {grid} = {found.status.jobs:,} jobs, in {study.path}")
    say.result(f"  {_counts(found.status)}")
    say.result(f"  about {clock(found.seconds)} and {found.nbytes:,} bytes more ({basis})")
    for name, reason in found.problems.items():
        say.result(f"  every job of {name} may fail: {reason}")
    return FAILED if found.problems or found.status.failed or found.status.poisoned else DONE


def _counts(status: "Status") -> str:
    bad = {"failed": status.failed, "poisoned": status.poisoned}
    named = "".join(f", {name}: {count:,}" for name, count in bad.items() if count)
    return f"done: {status.done:,}{named}, to do: {status.left:,}"
