"""`probe bias`: which attributes people of a group are drawn with, whether more than in the data, and made even."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

import probe
from probe.cli import say
from probe.cli.study import DONE, FAILED, INTERRUPTED, follow
from probe.cli.values import split
from probe.errors import BadInput

OWN, REPORT = "professions", "report.html"
RENDERED = "no labelled picture was given, and this classifier is not Menagerie's: its error is not known"


def run(options: Namespace) -> int:
    """Run the subcommand that was asked for."""
    return VERBS[options.verb](options[options.verb])


def run_study(options: Namespace) -> int:
    """0 if every picture was made and read, 1 if some were not, 130 if interrupted."""
    classifier = _classifier(options.classifier)
    study = probe.bias.study(
        _groups(options),
        options.template or probe.bias.TEMPLATE,
        classifier=classifier if options.classifier or options.model is None else None,
        arms=_arms(options.arm or []),
        within=options.within,
        **_fields(options),
    )
    errors = None if options.error is None else _measured(classifier, options)
    try:
        status = follow(study, device=options.device)
    except KeyboardInterrupt:
        say.interrupted(study.path)
        return INTERRUPTED
    audit = probe.bias.audit(study, errors=errors, within=options.within)
    audit.save(study.path)
    _tell(audit, study.path)
    return DONE if status.ok else FAILED


def show(options: Namespace) -> int:
    """The audit of a folder, made again from its pictures' rows."""
    audit = probe.bias.audit(options.folder)
    audit.save(options.folder)
    _tell(audit, Path(options.folder))
    return DONE


def error(options: Namespace) -> int:
    """The confusion matrix of each attribute."""
    found = _measured(_classifier(options.classifier), options)
    if not found:
        raise BadInput(f"{RENDERED}; give --error labels.csv")
    for attribute, confusion in found.items():
        say.result(f"{attribute}\n{confusion}\n")
    return DONE


def balance(options: Namespace) -> int:
    """0 if a value was found whose share is even, 1 if none was, 130 if interrupted."""
    knob, template = _knob(options)
    fields = {"template": template, "seeds": options.seeds, "steps": options.steps, "models": options.model}
    fields |= {"guidance": options.guidance, "folder": options.out}
    classifier = _classifier(options.classifier)
    aim = probe.bias.Aim(options.attribute, options.label, options.share, options.most)
    try:
        found = probe.bias.balance(
            options.group,
            knob,
            aim=aim,
            errors=None if options.error is None else _measured(classifier, options),
            run=partial(follow, device=options.device),
            classifier=classifier if options.classifier or options.model is None else None,
            within=options.within,
            **{name: value for name, value in fields.items() if value is not None},
        )
    except KeyboardInterrupt:
        say.interrupted(options.out)
        return INTERRUPTED
    say.result(found)
    folder = Path(options.out)
    say.result(f"  {probe.bias.open(folder).report(folder / REPORT, exist_ok=True)}  all values on one page")
    say.result(f"  {folder / 'balance.json'}  the same as numbers; more of it: probe bias show {folder}")
    return DONE if found.even else FAILED


def _knob(options: Namespace) -> "tuple[probe.bias.Knob, str]":
    """What is turned, and the template it is turned in."""
    if (options.towards is None) == (options.concept is None) or (options.concept is None) != (options.word is None):
        raise BadInput("say what is turned: --towards TEXT, or --concept FOLDER and --word WORD")
    last = {} if options.last is None else {"last": options.last}
    if options.towards is not None:
        return probe.bias.strength(options.towards, **last), options.template or probe.bias.TEMPLATE
    concept = probe.Concept.open(options.concept)
    own = concept.template.replace("{}", "{group}")
    return probe.bias.coefficient(concept, options.word, **last), options.template or own


VERBS: dict[str, Callable[[Namespace], int]] = {"run": run_study, "show": show, "balance": balance, "error": error}


def _groups(options: Namespace) -> Any:
    """Whom to draw: what was named, a list, or the professions of Menagerie's world."""
    if options.groups and options.list:
        raise BadInput("--groups and --list are two lists of groups; give one of them")
    if options.list == OWN:
        return probe.bias.PROFESSIONS
    if options.list:
        return probe.bias.read_groups(options.list)
    return split(options.groups) or probe.bias.PLANTED


def _fields(options: Namespace) -> dict[str, Any]:
    """The fields of the study that were given."""
    fields = {"seeds": options.seeds, "steps": options.steps, "models": options.model, "folder": options.out}
    scales = [_scale(text) for text in split(options.guidance)]
    looks = ("attention", "relevancy") if options.relevancy else ("attention",)
    fields |= {"guidance": scales or None, "explainers": looks if options.inside or options.relevancy else None}
    fields["scorers"] = ("judge", "clip") if options.arm and options.model is None else None
    return {name: value for name, value in fields.items() if value is not None}


def _arms(given: list[str]) -> dict[str, str]:
    """ "NAME=TEXT" as name and text."""
    parts = [text.partition("=") for text in given]
    wrong = next((text for text, (name, sign, other) in zip(given, parts, strict=True) if not (name and other)), None)
    if wrong is not None:
        raise BadInput(
            f"--arm {wrong!r} is not a name with a template; write --arm 'open=a photo of {{group}}, any gender'"
        )
    return {name.strip(): other for name, _, other in parts}


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError as problem:
        raise BadInput(f"--guidance holds {text!r}; give numbers with commas, such as 1,5") from problem


def _classifier(file: str | None) -> "probe.bias.Classifier":
    return probe.bias.MenagerieJudge() if file is None else probe.bias.read_classifier(file)


def _measured(classifier: "probe.bias.Classifier", options: Namespace) -> Any:
    """Its error on labelled pictures, else on rendered scenes."""
    if options.error is not None:
        return probe.bias.measure(classifier, probe.bias.labelled(options.error), source=Path(options.error).name)
    return probe.bias.measure_rendered(classifier, options.each)


def _tell(audit: "probe.bias.Audit", folder: Path) -> None:
    """Print the table and draw a figure of each attribute."""
    say.result(audit)
    say.result()
    for limit in probe.bias.LIMITS:
        say.result(f"- {limit}")
    for attribute in dict.fromkeys(audit.shares["attribute"]):
        path = folder / f"shares-{attribute}.png"
        audit.figure(str(attribute)).savefig(path)
        say.result(f"  {path}  shares of {attribute} with their intervals")
    say.result(f"  {audit.report(folder / REPORT, exist_ok=True)}  all of it on one page; open it in a browser")
    say.result(f"  {folder / 'summary.json'}  all numbers; also as {', '.join(probe.bias.TABLES)}.parquet")
