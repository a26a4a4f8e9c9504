"""Segmentation: the subjects of a prompt compete for each cell, by the rollouts of the later steps.

A rollout is wide and its subjects overlap, since cells attend to one another across them. What tells two subjects apart
is which of them a cell got more of. Layout is settled early and outlines come late, so the first half of the steps is
left out unless asked for. Cells are coarse, so the result is brought to the edges of the finished picture. As
attention, it shows where information could flow, not that it did. Cross-attention refined by self-attention, words that
compete for cells, and edges of the picture are all common in zero-shot segmentation; this combination is our own,
measured in docs/faithfulness.md.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from probe.axes import SPECIAL
from probe.errors import BadInput
from probe.explain.edges import to_edges
from probe.explain.rollout import rollouts
from probe.heatmap import Heatmap
from probe.readings import Choice, Steps, content_words, function_words
from probe.subjects import find_subjects
from probe.trace import Trace

SHARPNESS = 2  # the power of Luce's choice rule: 1 is a plain share, infinity takes the largest
UNITS = "the subject's, from 0 to 1"


def segmentation(
    trace: Trace, word: str, *, steps: Steps = None, image: int = 0, frame: int | None = None, edges: bool = True
) -> Heatmap:
    """How far a place is this word's rather than another subject's: 0..1. Without another subject it is the rollout.

    `steps`: the second half of them, where left out. `edges`: whether the cells are brought to the edges of the picture
    (`probe.explain.edges`), on a grid of up to 128 pixels; a trace without pictures stays on its cells.
    Raises as `rollout` does: record with `relations=["image->text", "image->image:low-rank"]`, and the other subjects
    among the words; and BadInput for a word that names nothing, such as "and".
    """
    label = subject_word(trace, word, image)
    late: Steps = slice(trace.run.steps // 2, None) if steps is None else steps
    others = rivals(trace, label, image)
    own, *theirs = rollouts(trace, [word, *others], Choice(steps=late, image=image, frame=frame))
    values = contested(_unit(own), [_unit(each) for each in theirs])
    shown = trace.shown(image) if edges else ()
    values = to_edges(values, shown[0]) if shown else values
    field = xr.DataArray(values.astype(np.float32), dims=("y", "x"), attrs={"units": UNITS})
    return Heatmap(
        field, own.subject, "segmentation", UNITS, {**own.provenance, "rivals": others, "edges": bool(shown)}
    )


def subject_word(trace: Trace, word: str, image: int = 0) -> str:
    """The label of a word of content, or of a phrase. Raises NoSuchWord, BadInput."""
    label = trace.word(word)
    if label in SPECIAL or label in function_words(trace, image):
        there = ", ".join(content_words(trace, image))
        raise BadInput(f"{word!r} names nothing that could be seen; segmentation is of words of content: {there}")
    return label


def contested(r: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """r r^g / (r^g + sum of o^g over the others): what a cell has of a word, times its share in the contest."""
    won = r**SHARPNESS
    return r * won / np.maximum(won + sum(other**SHARPNESS for other in others), np.finfo(float).tiny)


def rivals(trace: Trace, word: str, image: int = 0) -> list[str]:
    """The recorded heads of the subjects that a word neither names nor describes."""
    subjects = find_subjects(trace.run.prompt_of(image))
    starts = {each.label: each.start for each in trace.words_of(image)}
    theirs = [
        subject.label
        for subject in subjects
        if starts.get(word) not in (subject.start, *(each.start for each in subject.attributes))
    ]
    return [label for label in theirs if label in trace.labels]


def _unit(heatmap: Heatmap) -> np.ndarray:
    """[y, x] over its largest value."""
    values = heatmap.values.values.astype(np.float64)
    return values / max(float(values.max()), np.finfo(float).tiny)
