"""What a report says in numbers and words: the table of words, the settings, the guidance curve."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.show.curves import has_guidance
from probe.trace import Run, Trace
from probe.words import Word

Rows = list[tuple[str, str]]
CURVES: Mapping[str, str] = {
    "difference_norm": "norm of the difference",
    "cosine_previous": "cosine with the step before",
    "cosine_final": "cosine with the last step",
}


@dataclass(frozen=True)
class WordRow:
    """One row of the table of words. Shares are of a cell's attention, 0..1; `line` is the mean at each step."""

    label: str
    mean: float
    peak: float
    where: str
    line: tuple[float, ...]
    special: bool


@dataclass(frozen=True)
class Piece:
    """A piece of the prompt: plain text, or a word with its rank among the recorded labels."""

    text: str
    rank: int | None = None


def word_rows(labels: Sequence[str], maps: np.ndarray, special: Sequence[str]) -> list[WordRow]:
    """One row a label from its maps [step, word, y, x]."""
    rows = []
    for rank, label in enumerate(labels):
        steps = maps[:, rank]
        mean = steps.mean(axis=0)
        line = tuple(float(value) for value in steps.mean(axis=(1, 2)))
        peak = float(mean.max())
        rows.append(WordRow(label, float(mean.mean()), peak, region(mean), line, label in special))
    return rows


def region(plane: np.ndarray) -> str:
    """Where a map [y, x] is strongest, in words: "top left", "centre", "right", or "nowhere in particular"."""
    low, high = float(plane.min()), float(plane.max())
    if high - low <= 1e-6 * max(abs(high), 1e-12):
        return "nowhere in particular"
    row, column = np.unravel_index(int(plane.argmax()), plane.shape)
    vertical = ("top", "", "bottom")[int((row + 0.5) / plane.shape[0] * 3)]
    horizontal = ("left", "", "right")[int((column + 0.5) / plane.shape[1] * 3)]
    return f"{vertical} {horizontal}".strip() or "centre"


def pieces(prompt: str, words: Sequence[Word], labels: Sequence[str]) -> list[Piece]:
    """The prompt cut into recorded words and the text between them; nothing of it is lost."""
    found, position = [], 0
    ranks = {label: rank for rank, label in enumerate(labels)}
    for word in sorted(words, key=lambda word: word.start):
        inside = position <= word.start < word.end <= len(prompt)
        if word.label in ranks and inside and prompt[word.start : word.end].casefold() == word.text.casefold():
            found += [Piece(prompt[position : word.start]), Piece(prompt[word.start : word.end], ranks[word.label])]
            position = word.end
    return [piece for piece in (*found, Piece(prompt[position:])) if piece.text]


def settings(run: Run) -> Rows:
    """Everything needed to run it again, as names and values in words."""
    return [
        ("model", run.model),
        ("revision", run.revision or "not known"),
        ("pipeline", f"{run.pipeline} ({run.family})"),
        ("negative prompt", " | ".join(run.negative_prompts) or "none"),
        ("seed", "not fixed" if run.seed is None else str(run.seed)),
        ("steps", str(run.steps)),
        ("guidance scale", "none" if run.guidance_scale is None else f"{run.guidance_scale:g}"),
        ("size", f"{run.width} x {run.height} pixels"),
        ("precision", f"{run.dtype} on {run.device}"),
        ("made", run.created or "at an unknown time"),
        ("took", f"{run.seconds:.1f} s"),
    ]


def scheduler(run: Run) -> Rows:
    """The scheduler's own settings, as names and values in words; those that are not set are left out."""
    named = {name.strip("_").replace("_", " "): value for name, value in run.scheduler.items() if value is not None}
    spoken = {True: "yes", False: "no"}
    return [(name, spoken[v] if isinstance(v, bool) else str(v)) for name, v in sorted(named.items())]


def guidance(trace: Trace, image: int = 0) -> dict[str, list[float | None]]:
    """Steps and curves of the guidance record, None where there is no value; empty if there was no second branch."""
    if not has_guidance(trace):
        return {}
    record = trace.node("guidance").sel(image=image)
    curves = {name: [_number(value) for value in record[name].values] for name in CURVES if name in record}
    return {"step": [int(step) for step in record["step"].values], **curves}


def percent(share: float) -> str:
    """A share in per cent with three digits; number and sign stay on one line."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def polyline(values: Sequence[float], width: int = 120, height: int = 28) -> str:
    """Points of an SVG polyline through the values, from 0 at the bottom to the largest at the top."""
    top = max(max(values), 1e-12)
    across = width / max(1, len(values) - 1)
    return " ".join(f"{i * across:.1f},{height - 2 - (height - 4) * v / top:.1f}" for i, v in enumerate(values))


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
