"""Why is the dog missing? A verdict on every subject of a picture, from the inside and, with a judge, from the outside.

From the inside it is a prediction: attention says what the model read, not what it drew. Only a judge looks at the
picture, and a judge errs too. Neglect, fusion and leakage are named as by Chefer et al. (Attend-and-Excite, 2023).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import isnan, nan

import xarray as xr
from PIL import Image

from probe.errors import BadInput, NoSuchWord, NotRecorded
from probe.nurse.diagnosis import Diagnosis, Finding, Verdict
from probe.nurse.diagnosis_ahead import preview
from probe.nurse.diagnosis_calibration import Calibration, shipped
from probe.nurse.diagnosis_outside import Judge, Sight, look
from probe.nurse.diagnosis_signals import (
    LOST,
    OTHER,
    PREVIEW,
    RELEVANCY,
    SUBJECT,
    Cast,
    chance,
    explained_steps,
    lost_at,
    read_signals,
    summary,
)
from probe.subjects import Subject, find_subjects
from probe.trace import Trace

PAIRED: Mapping[Verdict, str] = {"fused": "overlap", "wrong attribute": "leak"}  # verdicts on two: their signal
UNLIKELY = 0.5  # risk of neglect from which on a subject counts as neglected by a look alone
SAME = 0.8  # overlap of two mean maps from which on two subjects count as fused
STRAY = 0.05  # how much closer to another noun an attribute's map has to be to count as leaked
RULES = (
    f"By uncalibrated rules: neglected below {LOST:.0%} of the strongest subject's attention, "
    f"fused from an overlap of {SAME:g} on, leaked where an attribute is closer to another noun by {STRAY:g}."
)
UNCALIBRATED = "the inside signals are not calibrated; experiments/calibrate_diagnosis.py does it"
FOREIGN = "the calibration is of other weights ({} {}), so the rules decide"
SILENT = "the calibration needs signals of these subjects that are not there, so the rules decide"
AHEAD = ", with what a judge (there Menagerie's) expects of the predicted picture"
EXPLAINED = ", with the relevancy of the words at the last of its steps"
LOOKED = "By what the judge expects of the predicted picture alone."
ALONE = "No rule applies, as one subject has nothing to be compared with: it counts as present."


def diagnose(
    trace: Trace,
    subjects: Sequence[str] | Mapping[str, str | None] | None = None,
    *,
    judge: Judge | None = None,
    image: int = 0,
    until: int | None = None,
) -> Diagnosis:
    """What became of every subject: present, neglected, fused with another, or with another's attribute.

    `subjects`: words of the prompt (default: the heads of its phrases), or a mapping of each to its attribute. `judge`:
    what reads the picture (see `probe.nurse.diagnosis_outside`); its word then counts, and attention says why. `until`:
    look only at the steps before this one. If the run has more, a judge reads the picture that the last of them
    predicts, decoded (`probe.decode_thumbnails(trace, pipe, steps=[until - 1])`): what it expects is one more signal.

    Where no judge's word counts, the first of these that can tell decides: the calibration with a look ahead, the look
    alone (0.5 or less is neglected), the calibration with relevancy (where the trace holds that of `telling_step` and
    of none before), the calibration of attention. A calibration counts for its own weights only, from its own
    threshold on. Where none can, a subject is neglected if its attention stays below half of the strongest
    subject's; of one subject alone attention says nothing.
    Raises BadInput, NoSuchWord, NotRecorded (saying what to record).
    """
    if until is not None and until < 1:
        raise BadInput(f"until is {until}; give the number of steps to look at, 1 or more")
    cast = find_cast(trace, subjects, image)
    ahead = steps_ahead(trace, until) if judge is not None else []
    previews = preview(judge, trace, cast, image, ahead[0]) if ahead else {}
    read = cache(partial(read_signals, trace, cast, image=image))  # of the steps before `until`
    signals = _with_previews(read(until=until), previews)
    sights = {} if judge is None or ahead else look(judge, _picture(trace, image), cast)
    risks = _risks(trace, read, until, previews)
    findings = [_finding(signals, s, risks.get(s), sights.get(s, Sight())) for s in cast.subjects]
    inside, doubts = _basis(trace, cast, risks)
    opening = "The judge's word counts where it can tell; else: " if sights else ""
    basis = f"{opening}{inside} {signals.sizes['step']} of {trace.run.steps} steps looked at."
    return Diagnosis(trace.run.prompt_of(image), tuple(findings), signals, basis, doubts)


def steps_ahead(trace: Trace, until: int | None) -> list[int]:
    """The steps whose predicted pictures a judge is shown by `diagnose(trace, until=until)`: one, or none."""
    return [until - 1] if until is not None and until < trace.run.steps else []


def telling_step(steps: int) -> int | None:
    """The step of a run of so many whose relevancy a diagnosis weighs: `probe.Relevancy(steps=(telling_step(50),))`."""
    by = shipped("relevancy")
    return None if by is None else by.span(steps) - 1


def find_cast(trace: Trace, subjects: Sequence[str] | Mapping[str, str | None] | None, image: int = 0) -> Cast:
    """The subjects as the trace labels them, with their attributes. Raises BadInput, NoSuchWord, NotRecorded."""
    if isinstance(subjects, str):
        raise BadInput(f"subjects is one string ({subjects!r}); give a list of words: subjects=[{subjects!r}]")
    found = find_subjects(trace.run.prompt_of(image))
    if subjects is None:
        subjects = [subject.label for subject in found]
    if not subjects:
        raise BadInput(f"no subject was found in {trace.run.prompt_of(image)!r}; name them: subjects=['cat']")
    named = [_recorded(trace, subject) for subject in subjects]
    if len(set(named)) < len(named):
        raise BadInput(f"a subject is named twice: {', '.join(named)}; name each once (of two cats: cat and cat#2)")
    if isinstance(subjects, Mapping):
        marks = {_recorded(trace, s): _recorded(trace, mark) for s, mark in subjects.items() if mark is not None}
    else:
        marks = {s.label: mark for s in found if s.label in named and (mark := _attribute(trace, s, image)) is not None}
    return Cast(tuple(named), marks)


def _recorded(trace: Trace, word: str) -> str:
    """A word's label. Raises NotRecorded for a word of the prompt without readings, NoSuchWord for another."""
    if not trace.attention_nodes():
        raise NotRecorded(f"this trace holds no attention; record it: probe.record(pipe, words=[{word!r}, ...])")
    named = {spelling for each in trace.words for spelling in (each.label, each.text)}
    try:
        return trace.word(word)
    except NoSuchWord as error:
        if word in named:
            raise NotRecorded(f"{error}. Record it: probe.record(pipe, words=[{word!r}, ...])") from error
        raise


def _attribute(trace: Trace, subject: Subject, image: int) -> str | None:
    """The label of the last recorded word that describes a subject."""
    starts = {modifier.start for modifier in subject.attributes}
    labels = [word.label for word in trace.words_of(image) if word.start in starts and word.label in trace.labels]
    return labels[-1] if labels else None


def _picture(trace: Trace, image: int) -> Image.Image:
    if image >= len(trace.pictures):
        raise NotRecorded(
            f"this trace holds {len(trace.pictures)} pictures, and a judge needs picture {image}; "
            "record a run that makes pictures (output_type='pil'), or leave the judge out"
        )
    return trace.pictures[image]


def _with_previews(signals: xr.Dataset, previews: Mapping[str, float]) -> xr.Dataset:
    return signals.assign({PREVIEW: (SUBJECT, list(previews.values()))}) if previews else signals


@dataclass(frozen=True)
class _Risk:
    """The probability of neglect, from which on it counts, what gave it, and what to be careful about."""

    probability: float
    threshold: float
    basis: str
    doubts: tuple[str, ...] = ()


def _risks(
    trace: Trace, read: Callable[..., xr.Dataset], until: int | None, previews: Mapping[str, float]
) -> dict[str, _Risk]:
    """The risk of each subject of which one is known, by what can tell best."""
    calibrated = partial(_calibrated, trace, read, until)
    looked = {s: _Risk(1 - chance(odds), UNLIKELY, LOOKED) for s, odds in previews.items() if not isnan(odds)}
    ahead = calibrated(shipped("preview"), previews) if previews else {}
    return calibrated(shipped(), {}) | calibrated(shipped("relevancy"), {}) | looked | ahead


def _calibrated(
    trace: Trace,
    read: Callable[..., xr.Dataset],
    until: int | None,
    by: Calibration | None,
    previews: Mapping[str, float],
) -> dict[str, _Risk]:
    """Risks by a calibration of these weights, from no larger share of the steps than was calibrated."""
    if by is None or not by.of_these(trace.run.model, trace.run.revision):
        return {}
    span = by.span(trace.run.steps)
    explained = RELEVANCY in by.signals
    if explained and explained_steps(trace, RELEVANCY, span) != [span - 1]:
        return {}
    signals = _with_previews(read(until=span if until is None else min(until, span)), previews)
    found = {subject: by.probability(summary(signals, subject)) for subject in signals[SUBJECT].values.tolist()}
    told = (
        f"By a calibration on {by.pictures} pictures (AUC {by.auc:.2f}){AHEAD if previews else ''}"
        f"{EXPLAINED if explained else ''}: neglected from a risk of {by.threshold:.0%} on."
    )
    doubts = tuple(by.doubts(trace, until if previews and until else int(signals.sizes["step"])))
    return {subject: _Risk(risk, by.threshold, told, doubts) for subject, risk in found.items() if risk is not None}


def _finding(signals: xr.Dataset, subject: str, risk: _Risk | None, sight: Sight) -> Finding:
    numbers = summary(signals, subject)
    verdict, other = _outside(sight) if sight.present is not None else _inside(signals, subject, numbers, risk)
    shown = _towards(signals, verdict, subject, other)
    return Finding(subject, verdict, other, shown, lost_at(signals, subject), numbers, risk and risk.probability, sight)


def _towards(signals: xr.Dataset, verdict: Verdict, subject: str, other: str | None) -> float:
    """What attention says of the pair that a verdict is about; NaN where it is about none."""
    name = PAIRED.get(verdict)
    return nan if name is None or other is None else float(signals[name].sel(subject=subject, other=other))


def _outside(sight: Sight) -> tuple[Verdict, str | None]:
    if not sight.present:
        return "neglected", None
    if sight.fused is not None:
        return "fused", sight.fused
    return ("wrong attribute", sight.leaked) if sight.leaked is not None or sight.right is False else ("present", None)


def _inside(
    signals: xr.Dataset, subject: str, numbers: Mapping[str, float], risk: _Risk | None
) -> tuple[Verdict, str | None]:
    neglected = numbers["relative"] < LOST if risk is None else risk.probability >= risk.threshold
    if neglected:
        return "neglected", None
    if numbers["overlap"] >= SAME:
        return "fused", _most(signals, "overlap", subject)
    return ("wrong attribute", _most(signals, "leak", subject)) if numbers["leak"] >= STRAY else ("present", None)


def _most(signals: xr.Dataset, name: str, subject: str) -> str:
    """The other subject for which a signal is largest."""
    return str(signals[name].sel(subject=subject).idxmax(OTHER).item())


def _basis(trace: Trace, cast: Cast, risks: Mapping[str, _Risk]) -> tuple[str, tuple[str, ...]]:
    """What the verdicts rest on where no judge's word counts, and what to be careful about."""
    if not risks and len(cast.subjects) == 1:
        return ALONE, ()
    if not risks:
        return RULES, (_why_no_risk(trace),)
    told = list(dict.fromkeys(risk.basis for risk in risks.values()))
    rest = [subject for subject in cast.subjects if subject not in risks]
    told += [f"Of {', '.join(rest)}: {RULES}"] if rest else []
    return " ".join(told), tuple(dict.fromkeys(doubt for risk in risks.values() for doubt in risk.doubts))


def _why_no_risk(trace: Trace) -> str:
    by = shipped()
    if by is None:
        return UNCALIBRATED
    if not by.of_these(trace.run.model, trace.run.revision):
        return FOREIGN.format(by.model, by.weights[:12])
    return SILENT
