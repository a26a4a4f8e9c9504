"""Two traces compared: which settings differ, and how far maps, guidance and latents went apart.

It says how much and where, not why. If the runs differ in one setting alone, from the same noise, the difference is
that setting's; two seeds differ too, so set what was found beside the difference between seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import xarray as xr

from probe.axes import SPECIAL, Branch
from probe.comparison import FIRST, SECOND, SIDES, Comparison
from probe.errors import BadInput, NoSuchWord, NotRecorded
from probe.explain.differences import PARTS
from probe.explain.pairing import Both
from probe.readings import function_words
from probe.trace import Run, Trace

Words = str | Sequence[str] | Mapping[str, str] | None
NOT_ASKED = {"created", "seconds"}


def compare(
    first: Trace, second: Trace, *, words: Words = None, images: tuple[int, int] = (0, 0), branch: Branch = "cond"
) -> Comparison:
    """What differs between two traces, and by how much; see `probe.comparison` for the parts and their units.

    `words`: None are the content words that both hold; a mapping such as {"cat": "dog"} sets a word of the first beside
    another of the second. `images`: which picture of each trace; so the pictures of one batch compare, too.
    Steps: of runs of one length the same step of both; else each step of the shorter run beside that of the longer
    whose middle lies nearest, as a share of its run. Grids: the maps of a group of sites are brought to the coarser of
    the two traces' grids, bilinear, so that no detail is made up. A group that one model has not counts in "all" only.
    To compare chosen sites or steps, cut both traces with `trace.sel` before.
    Raises NoSuchWord for a word that a trace does not hold, naming which. What was not recorded is no error: its part
    is empty, and a note says what to record.
    """
    both = Both((first, second), images, branch, _pairs((first, second), images, words))
    parts: dict[str, xr.Dataset] = {}
    notes: list[str] = []
    for name, read in PARTS.items():
        try:
            parts[name] = read(both)
        except (NotRecorded, BadInput) as problem:
            parts[name] = xr.Dataset()
            notes.append(f"{name}: {problem}")
    differing = settings(first, second)
    return Comparison(first, second, images, differing, alone(first, second), both.picture, **parts, notes=tuple(notes))


def settings(first: Trace, second: Trace) -> pd.DataFrame:
    """One row a field of the runs that differs: setting, first, second, as text; "" where a run has no such field."""
    ours, theirs = (_flat(trace.run) | _beside(trace) for trace in (first, second))
    rows = [(name, ours.get(name, ""), theirs.get(name, "")) for name in dict.fromkeys((*ours, *theirs))]
    return pd.DataFrame([row for row in rows if row[1] != row[2]], columns=["setting", *SIDES])


def _flat(run: Run) -> dict[str, str]:
    """Every field as text, those of its dicts under dotted names; not when it was made, nor how long that took."""
    flat: dict[str, str] = {}
    for name, value in run.model_dump(exclude=NOT_ASKED).items():
        inner = value if isinstance(value, dict) else None
        flat |= {name: _told(value)} if inner is None else {f"{name}.{key}": _told(v) for key, v in inner.items()}
    return flat


def _beside(trace: Trace) -> dict[str, str]:
    """What was changed in the model and while the picture was made: adapters, fused ones, interventions."""
    asked: Sequence[Mapping[str, Any]] = trace.extra.get("interventions", ())
    parts: Mapping[str, Mapping[str, Any]] = trace.extra.get("adapters", {})
    scales = {f"adapter.{part}.{name}": _told(each) for part, own in parts.items() for name, each in own.items()}
    scales |= {"fused": _told(names)} if (names := trace.extra.get("fused")) else {}
    return scales | {f"intervention {i}": ", ".join(f"{k}={v}" for k, v in e.items()) for i, e in enumerate(asked, 1)}


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " | ".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def alone(first: Trace, second: Trace) -> dict[str, tuple[str, ...]]:
    """The words and special tokens that were recorded of only one; case does not count."""
    ours, theirs = ({label.casefold(): label for label in trace.labels} for trace in (first, second))
    return {
        FIRST: tuple(label for key, label in ours.items() if key not in theirs),
        SECOND: tuple(label for key, label in theirs.items() if key not in ours),
    }


def _pairs(traces: tuple[Trace, Trace], images: tuple[int, int], words: Words) -> dict[str, str]:
    """Which word of the first stands beside which of the second. Raises NoSuchWord."""
    first, second = traces
    if words is not None:
        asked = [words] if isinstance(words, str) else words
        given = asked if isinstance(asked, Mapping) else {word: word for word in asked}
        return {_label(first, FIRST, a): _label(second, SECOND, b) for a, b in given.items()}
    ours, theirs = (trace.labels_of(image) for trace, image in zip(traces, images, strict=True))
    there = {label.casefold(): label for label in theirs if label not in SPECIAL}
    shared = [label for label in ours if label.casefold() in there]
    dull = function_words(first, images[0])
    return {label: there[label.casefold()] for label in [each for each in shared if each not in dull] or shared}


def _label(trace: Trace, side: str, word: str) -> str:
    try:
        return trace.word(word)
    except NoSuchWord as problem:
        raise NoSuchWord(f"in the {side} trace, {problem}") from problem
