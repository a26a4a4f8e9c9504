"""What attention says about each subject while the picture is made: the signals of a diagnosis, pure arithmetic.

They show how much the denoiser read a word and where, never that the picture holds it: a word that gets little can
still be drawn by habit, and one that gets much can come out as something else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf, isnan, log, log2

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.axes import STEP
from probe.nurse.maps import SHARPNESS, distribution, overlap, smooth
from probe.readings import Choice, chosen_sites, word_maps
from probe.site import Site
from probe.trace import Trace

CELLS = 256  # the papers' 16 x 16
LOST = 0.5  # share of the strongest subject's attention below which a subject counts as lost
SUBJECT, OTHER = "subject", "other"
PREVIEW = "preview"  # the log-odds that a judge gives a subject in the picture which the last step predicts
RELEVANCY = "relevancy"
EXPLAINED = {RELEVANCY: "relevancy", "leave_one_out": "magnitude"}  # node of the trace: its variable
NAMES = ("attention", "presence", "relative", "lead", "share", "kept", "overlap", "leak", *EXPLAINED, PREVIEW)
EDGE = 1e-4  # a probability is taken for one at least this far from 0 and 1


@dataclass(frozen=True)
class Cast:
    """Who is looked for: labels of the subjects, and of the word that describes each (where one does)."""

    subjects: tuple[str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """Every word whose maps are read."""
        return tuple(dict.fromkeys((*self.subjects, *self.attributes.values())))


def read_signals(trace: Trace, cast: Cast, *, image: int = 0, until: int | None = None) -> xr.Dataset:
    """The signals of every subject over the steps before `until`, on the sites whose grid is nearest to 16 x 16 cells.

    attention  (subject, step)   the largest cell of the smoothed map, as a share of a cell's attention
    presence   (subject, step)   the same of the sharpened map, which is what Attend-and-Excite raises; NaN where the
                                 trace does not hold the special tokens
    relative   (subject, step)   the largest attention so far, as a share of the strongest subject's
    lead       (subject)         by how much it is ahead of every other at its best cell, at the last step, as a share
                                 of the strongest subject's largest cell; below 0 where it is ahead nowhere
    share      (subject)         of the attention of all subjects, mean over cells and steps
    kept       (subject)         attention at the last step, as a share of its largest
    overlap    (subject, other)  1 where the mean maps of two subjects are the same, 0 where they are apart
    leak       (subject, other)  how much closer the other's attribute is to this subject than to its own, -1 to 1
    preview    (subject)         not of attention, so not of this function: what a judge that looks ahead expects, as
                                 log-odds (`probe.nurse.diagnosis_ahead`)
    relevancy, leave_one_out     (subject): share of all subjects' relevancy, and of what leaving a word out changes;
                                 NaN where the trace holds none (`explain=[probe.Relevancy(), probe.LeaveOneOut()]`)
    """
    maps = word_maps(trace, cast.words, _choice(trace, image, until))
    planes = dict(zip(cast.words, torch.from_numpy(maps.values).unbind(1), strict=True))  # label: [step, y, x]
    means = {word: distribution(steps.mean(0)) for word, steps in planes.items()}
    found = attended({subject: planes[subject] for subject in cast.subjects}, _presence(trace, cast, image, until))
    more = {"leak": ((SUBJECT, OTHER), _leaks(cast, means))}
    more |= {node: (SUBJECT, _explained(trace, node, cast, image, until)) for node in EXPLAINED}
    return found.assign(more).assign_coords({STEP: maps[STEP].values}).assign_attrs(grid=maps.shape[-2:])


def attended(planes: Mapping[str, Tensor], presence: np.ndarray) -> xr.Dataset:
    """The signals up to overlap, as in `read_signals`, of maps [step, y, x] by subject; `presence` [subject, step]."""
    means = {subject: distribution(steps.mean(0)) for subject, steps in planes.items()}
    smoothed = smooth(torch.stack([*planes.values()]))  # [subject, step, y, x]
    attention = smoothed.amax((-2, -1)).numpy()
    weight = np.array([float(steps.mean()) for steps in planes.values()])
    found = {
        "attention": ((SUBJECT, STEP), attention),
        "presence": ((SUBJECT, STEP), presence),
        "relative": ((SUBJECT, STEP), _relative(attention)),
        "lead": (SUBJECT, leads(smoothed[:, -1]).numpy()),
        "share": (SUBJECT, _shares(weight)),
        "kept": (SUBJECT, attention[:, -1] / attention.max(1).clip(1e-12)),
        "overlap": ((SUBJECT, OTHER), _overlaps(means)),
    }
    return xr.Dataset(found, coords={SUBJECT: list(planes), OTHER: list(planes)})


def summary(signals: xr.Dataset, subject: str) -> dict[str, float]:
    """One number a signal that is there: the largest over steps and others; of what is relative, the last."""
    own = signals.sel(subject=subject)
    found = {name: own[name].values for name in NAMES if name in own}
    found["relative"] = found["relative"][-1:]
    return {name: _largest(values) for name, values in found.items()}


def lost_at(signals: xr.Dataset, subject: str) -> int | None:
    """The step from which on a subject stays below LOST of the strongest; None if it ends above."""
    relative = signals["relative"].sel(subject=subject)
    held = np.nonzero(relative.values >= LOST)[0]
    steps = relative[STEP].values
    if len(held) and held[-1] == len(steps) - 1:
        return None
    return int(steps[held[-1] + 1 if len(held) else 0])


def peaks(planes: Tensor) -> Tensor:
    """[step, y, x] -> [step]: the largest cell of the smoothed maps."""
    return smooth(planes).amax((-2, -1))


def leads(planes: Tensor) -> Tensor:
    """[subject, y, x] -> [subject]: the largest of A_i - max over the others of A_j, as a share of the largest A.

    Attention is never below 0, so a subject without others is compared with 0, and leads by all it has.
    """
    n = len(planes)
    others = planes.expand(n, *planes.shape).clone()  # [subject, other, y, x]
    others[range(n), range(n)] = 0.0
    return (planes - others.amax(1)).amax((-2, -1)) / planes.amax().clamp(min=1e-12)


def plain(label: str) -> str:
    """The word of a label: of "cat#2" it is cat."""
    return label.partition("#")[0].casefold()


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite for all p from 0 to 1; NaN stays NaN."""
    q = p if isnan(p) else min(max(p, EDGE), 1 - EDGE)
    return log(q / (1 - q))


def chance(odds: float) -> float:
    """The probability of these log-odds."""
    return 1 / (1 + exp(-odds))


def closeness(p: Tensor, q: Tensor) -> float:
    """Of two maps with sum 1: the sum over cells of the smaller value; 1 for equal maps, 0 for disjoint ones."""
    return float(2 * overlap(p, q))


def nearest_sites(trace: Trace) -> tuple[Site, ...]:
    """The sites whose grid is nearest to the papers' 16 x 16. Raises NotRecorded."""
    sites = chosen_sites(trace)
    grid = min((site.grid for site in sites), key=lambda g: abs(log2(g[0] * g[1] / CELLS)))
    return tuple(site for site in sites if site.grid == grid)


def _choice(trace: Trace, image: int, until: int | None) -> Choice:
    return Choice(nearest_sites(trace), slice(None, until), image)


def _presence(trace: Trace, cast: Cast, image: int, until: int | None) -> np.ndarray:
    """[subject, step]: the largest cell of the smoothed, sharpened map.

    Attend-and-Excite's softmax of 100 A over all tokens but the start, from words: a word of several tokens counts as
    one, and what was summed over many tokens (padding, words that were not recorded) is spread evenly over them.
    """
    held = {word.label for word in trace.words_of(image)} & set(trace.labels)
    if not {"<start>", "<padding>"} <= set(trace.labels):
        return np.full((len(cast.subjects), len(_steps(trace, until))), np.nan)
    named = tuple(dict.fromkeys((*cast.subjects, *sorted(held), "<end>", "<padding>", "<start>")))
    maps = torch.from_numpy(word_maps(trace, named, _choice(trace, image, until)).values)  # [step, word, y, x]
    rest = (1 - maps.sum(1, keepdim=True)).clamp(min=0)
    mass = torch.cat([maps[:, :-1], rest], dim=1)  # the start token is left out
    counts = torch.ones(mass.shape[1])
    counts[-2:] = torch.tensor([float(_paddings(trace, image)), float(len(trace.words_of(image)) - len(held))])
    weight = torch.tensor([log(n) if n else -inf for n in counts.tolist()])[:, None, None]
    sharp = torch.softmax(SHARPNESS * mass / counts.clamp(min=1)[:, None, None] + weight, dim=1)
    return torch.stack([peaks(sharp[:, i]) for i in range(len(cast.subjects))]).numpy()


def _paddings(trace: Trace, image: int) -> int:
    """Padding tokens of one encoder, without the last position, which the released code drops."""
    counts = [t.encoder for t in trace.tokens_of(image) if t.special == "<padding>"]
    return max((counts.count(encoder) for encoder in set(counts)), default=1) - 1


def _steps(trace: Trace, until: int | None) -> Sequence[int]:
    return [step for step in trace.attention_nodes()[0][STEP].values.tolist() if until is None or step < until]


def _relative(attention: np.ndarray) -> np.ndarray:
    """[subject, step]: the largest so far, as a share of the strongest subject's largest so far."""
    most = np.maximum.accumulate(attention, axis=1)
    return most / most.max(0).clip(1e-12)


def _shares(weight: np.ndarray) -> np.ndarray:
    return weight / max(float(weight.sum()), 1e-12)


def _overlaps(means: Mapping[str, Tensor]) -> np.ndarray:
    return np.array([[np.nan if a == b else closeness(means[a], means[b]) for b in means] for a in means])


def _leaks(cast: Cast, means: Mapping[str, Tensor]) -> np.ndarray:
    """[subject, other]: NaN where the other has no attribute, or the same one."""

    def leak(subject: str, other: str) -> float:
        mark = cast.attributes.get(other)
        if mark is None or subject == other or plain(mark) == plain(cast.attributes.get(subject, "")):
            return np.nan
        return closeness(means[mark], means[subject]) - closeness(means[mark], means[other])

    return np.array([[leak(subject, other) for other in cast.subjects] for subject in cast.subjects])


def _explained(trace: Trace, node: str, cast: Cast, image: int, until: int | None) -> np.ndarray:
    """[subject]: shares of what an inquiry found, summed over cells and steps; NaN where it did not look."""
    nothing = np.full(len(cast.subjects), np.nan)
    if node not in trace.tree.children:
        return nothing
    maps = trace.node(node)[EXPLAINED[node]].isel(image=image)
    early = [step for step in maps[STEP].values.tolist() if until is None or step < until]
    if not early or not set(cast.subjects) <= set(maps["word"].values.tolist()):
        return nothing
    sums = maps.sel(step=early, word=list(cast.subjects)).sum((STEP, "y", "x"))
    return _shares(sums.values.astype(np.float64))


def explained_steps(trace: Trace, node: str, until: int) -> list[int]:
    """The steps before `until` at which a trace holds what an inquiry found."""
    held = trace.node(node)[STEP].values.tolist() if node in trace.tree.children else []
    return [step for step in held if step < until]


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else float("nan")
