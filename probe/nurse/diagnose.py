"""Why is the dog missing? A verdict on every subject of a picture, from the inside and, with a judge, from the outside.

From the inside it is a prediction: attention says what the model read, not what it drew. Only a judge looks at the
picture, and a judge errs too. Neglect, fusion and leakage are named as by Chefer et al. (Attend-and-Excite, 2023).
"""

from collections.abc import Mapping, Sequence

import xarray as xr
from PIL import Image

from probe.errors import BadInput, NoSuchWord, NotRecorded
from probe.nurse.diagnosis import Diagnosis, Finding, Verdict
from probe.nurse.diagnosis_calibration import Calibration, shipped
from probe.nurse.diagnosis_outside import Judge, Sight, look
from probe.nurse.diagnosis_signals import LOST, OTHER, Cast, lost_at, read_signals, summary
from probe.subjects import Subject, find_subjects
from probe.trace import Trace

RISK = 0.5  # probability of neglect from which on a subject counts as neglected
SAME = 0.8  # overlap of two mean maps from which on two subjects count as fused
STRAY = 0.05  # how much closer to another noun an attribute's map has to be to count as leaked
RULES = (
    f"By uncalibrated rules: neglected below {LOST:.0%} of the strongest subject's attention, "
    f"fused from an overlap of {SAME:g} on, leaked where an attribute is closer to another noun by {STRAY:g}."
)
UNCALIBRATED = "the inside signals are not calibrated; experiments/calibrate_diagnosis.py does it"
SILENT = "the calibration needs signals of these subjects that are not there, so the rules decide"
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
    look only at the steps before this one. Without a judge a subject is neglected where the shipped calibration says so
    or, where there is none, where its attention stays below half of the strongest subject's; of one subject alone
    nothing can be said then. Raises BadInput, NoSuchWord, NotRecorded (saying what to record).
    """
    if until is not None and until < 1:
        raise BadInput(f"until is {until}; give the number of steps to look at, 1 or more")
    cast = find_cast(trace, subjects, image)
    signals = read_signals(trace, cast, image=image, until=until)
    sights = {} if judge is None else look(judge, _picture(trace, image), cast)
    calibration = shipped()
    risks = {} if calibration is None else _risks(trace, cast, image, until, calibration)
    findings = [_finding(signals, s, risks.get(s), sights.get(s, Sight())) for s in cast.subjects]
    seen = int(signals.sizes["step"])
    by = None if all(risk is None for risk in risks.values()) else calibration
    inside, doubts = _rules(len(findings)) if by is None else _calibrated(trace, by, seen)
    opening = "The judge's word counts where it can tell; else: " if judge is not None else ""
    basis = f"{opening}{inside} {seen} of {trace.run.steps} steps looked at."
    return Diagnosis(trace.run.prompt_of(image), tuple(findings), signals, basis, doubts)


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


def _risks(
    trace: Trace, cast: Cast, image: int, until: int | None, calibration: Calibration
) -> dict[str, float | None]:
    """The probability of neglect of each subject, from no more steps than were calibrated."""
    early = calibration.until if until is None else min(until, calibration.until)
    signals = read_signals(trace, cast, image=image, until=early)
    return {subject: calibration.probability(summary(signals, subject)) for subject in cast.subjects}


def _finding(signals: xr.Dataset, subject: str, risk: float | None, sight: Sight) -> Finding:
    numbers = summary(signals, subject)
    verdict, other = _outside(sight) if sight.present is not None else _inside(signals, subject, numbers, risk)
    return Finding(subject, verdict, other, lost_at(signals, subject), numbers, risk, sight)


def _outside(sight: Sight) -> tuple[Verdict, str | None]:
    if not sight.present:
        return "neglected", None
    if sight.fused is not None:
        return "fused", sight.fused
    return ("wrong attribute", sight.leaked) if sight.leaked is not None or sight.right is False else ("present", None)


def _inside(
    signals: xr.Dataset, subject: str, numbers: Mapping[str, float], risk: float | None
) -> tuple[Verdict, str | None]:
    neglected = numbers["relative"] < LOST if risk is None else risk >= RISK
    if neglected:
        return "neglected", None
    if numbers["overlap"] >= SAME:
        return "fused", _most(signals, "overlap", subject)
    return ("wrong attribute", _most(signals, "leak", subject)) if numbers["leak"] >= STRAY else ("present", None)


def _most(signals: xr.Dataset, name: str, subject: str) -> str:
    """The other subject for which a signal is largest."""
    return str(signals[name].sel(subject=subject).idxmax(OTHER).item())


def _rules(subjects: int) -> tuple[str, tuple[str, ...]]:
    """What the verdicts on so many subjects rest on without a calibration, and what to be careful about."""
    if subjects == 1:
        return ALONE, ()
    return RULES, (UNCALIBRATED if shipped() is None else SILENT,)


def _calibrated(trace: Trace, calibration: Calibration, seen: int) -> tuple[str, tuple[str, ...]]:
    """The same with one."""
    told = f"By a calibration on {calibration.pictures} pictures (AUC {calibration.auc:.2f})."
    return told, tuple(calibration.doubts(trace, min(seen, calibration.until)))
