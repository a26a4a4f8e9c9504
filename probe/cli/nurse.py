"""`probe nurse`: one prompt and seed drawn twice, plain and nursed, with what became of the subjects in both."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

import probe
from probe.cli import output, say
from probe.cli.diagnose import judge_of, watched
from probe.cli.drawing import check_prompt, generate, load
from probe.cli.parser import nurse_options
from probe.cli.values import split
from probe.errors import BadInput, Diverged
from probe.intervention import AttentionIntervention, Intervention
from probe.study.nursing import nurse_for, pairs, settings_of

if TYPE_CHECKING:
    from probe.nurse.diagnosis import Diagnosis

BOX = "cat=0,0,.5,1; dog=.5,0,1,1"


def run(options: Namespace) -> int:
    """Everything is checked that can be before the model is loaded; nothing is visible before everything is there."""
    from probe.nurse import how_far, with_moved

    check_prompt(options.prompt, "nurse")
    subjects = split(options.subjects)
    asked = settings_of(options.set) | ({"boxes": _boxes(options.boxes)} if options.boxes else {})
    method = nurse_for(options.method, options.prompt, subjects or None, settings=asked)
    _check_alone(method)
    target = output.target_of(options, options.prompt)
    with _kept_if_diverged(target), output.folder(target, options, nurse_options) as work:
        judge, pipe = judge_of(options), load(options)
        traces, found = {}, {}
        for name, interventions in (("plain", ()), (options.method, (method,))):
            trace = generate(pipe, options, words=watched(subjects), interventions=interventions, label=name)
            traces[name] = probe.decode_thumbnails(trace, pipe)
            found[name] = probe.diagnose(traces[name], subjects or None, judge=judge)
        plain, nursed = traces.values()
        nursed = with_moved(nursed, plain)
        far = how_far(nursed)
        figures = _write([plain, nursed], list(found.values()), far, work)
    _announce(found, far, target, figures)
    return 0


@contextmanager
def _kept_if_diverged(target: Path) -> Generator[None]:
    """Where nursing runs away, the steps before are saved beside the result, and the error says where."""
    try:
        yield
    except Diverged as error:
        if error.trace is None:
            raise
        place = output.free(target.with_name(f"{target.name}-diverged"))
        error.trace.save(place)
        raise Diverged(f"{error}. The steps before are saved: probe open {place}") from error


def _check_alone(method: Intervention) -> None:
    """Raises BadInput for a method that needs a second prompt in the same call."""
    if isinstance(method, AttentionIntervention) and method.source is not None:
        raise BadInput(
            f"{method.method} takes attention from another run, and this command draws one prompt: name the folder of "
            "a recorded trace, --set 'recorded=FOLDER' (docs/methods.md says what it has to hold)"
        )


def _boxes(text: str) -> dict[str, list[float]]:
    """ "cat=0,0,.5,1" as data; that they lie inside the picture is the method's business."""
    try:
        return {name: [float(edge) for edge in value.split(",")] for name, value in pairs(text, "--boxes", BOX)}
    except ValueError as error:
        raise BadInput(f"--boxes {text!r}: {error}; write it like {BOX!r}") from error


def _write(traces: "list[probe.Trace]", found: "list[Diagnosis]", far: str, work: Path) -> list[str]:
    """Both pictures and traces, figures, and the report of the nursed run; returns the names of the figures."""
    plain, nursed = traces
    for name, trace in (("before", plain), ("after", nursed)):
        trace.pictures[0].save(work / f"{name}.png")
    plain.save(work / "trace-before")
    nursed.save(work / "trace")
    story = probe.show.Story((*found[1].sentences, far), found[0].sentences, plain)
    probe.show.report(nursed, work / "report.html", story=story)
    (work / "figures").mkdir()
    words = [finding.subject for finding in found[1].findings][:4]
    figures = {"before-after": probe.show.before_after(plain, nursed, words)}
    if probe.show.has_nursing(nursed):
        figures["nursing"] = probe.show.nursing_curves(nursed)
    return output.save(figures, work / "figures")


def _announce(found: "dict[str, Diagnosis]", far: str, target: Path, figures: list[str]) -> None:
    for name, diagnosis in found.items():
        say.result("\n  ".join([name, *diagnosis.sentences]))
    say.result(far)
    last = list(found.values())[-1]
    say.result(last.basis)
    for note in last.notes:
        say.aside(f"note: {note}")
    for name, what in {
        "before.png": "the plain picture",
        "after.png": "the nursed picture, from the same noise",
        "figures": ", ".join(figures),
        "trace": "the record of the nursed run; that of the plain one is in trace-before",
        "report.html": "the report; open it in a browser",
    }.items():
        say.result(f"  {target / name}  {what}")
