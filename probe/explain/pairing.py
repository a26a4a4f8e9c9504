"""Two traces with what stands beside what: pictures, words and steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from probe.axes import IMAGE, STEP, Branch
from probe.comparison import SIDES
from probe.errors import NotRecorded
from probe.explain import distances
from probe.readings import Choice, chosen_sites, word_maps
from probe.trace import Trace

Steps = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Both:
    """Two traces, which picture of each, the branch, and which word of the first stands beside which of the second."""

    traces: tuple[Trace, Trace]
    images: tuple[int, int]
    branch: Branch
    words: Mapping[str, str]

    def nodes(self, name: str) -> list[xr.Dataset]:
        """A node of each, one picture. Raises NotRecorded, saying which trace has none."""
        found = []
        for side, trace, image in zip(SIDES, self.traces, self.images, strict=True):
            if name not in trace.tree.children or image not in trace.node(name)[IMAGE].values:
                raise NotRecorded(
                    f"the {side} trace holds no {name} of picture {image}; record it with probe.record(pipe)"
                )
            found.append(trace.node(name).sel({IMAGE: image}))
        return found

    def steps(self, recorded: Iterable[Sequence[int]]) -> Steps:
        """Which steps stand beside which, of those recorded of each. Raises NotRecorded."""
        ours, theirs = recorded
        found = paired(ours, theirs, (self.traces[0].run.steps, self.traces[1].run.steps))
        if not found:
            raise NotRecorded("no step was recorded in both; record the same steps, or all")
        return [a for a, _ in found], [b for _, b in found]

    def attended(self) -> Steps:
        """The steps of which attention was recorded in both. Raises NotRecorded."""
        for side, trace in zip(SIDES, self.traces, strict=True):
            if not trace.labels:
                raise NotRecorded(
                    f"the {side} trace holds no attention; record it with probe.record(pipe, words=[...])"
                )
        return self.steps(trace.attention_nodes()[0][STEP].values.tolist() for trace in self.traces)

    def maps(self, labels: Sequence[Sequence[str]], steps: Steps, group: str | None = None) -> list[np.ndarray]:
        """[step, word, y, x] of each trace on its own grid: the mean over all its sites, or those of a group."""
        found = []
        for trace, image, own, chosen in zip(self.traces, self.images, labels, steps, strict=True):
            sites = [site for site in chosen_sites(trace) if group in (None, site.group)]
            found.append(word_maps(trace, own, Choice(sites, chosen, image, self.branch)).values)
        return found

    @property
    def picture(self) -> float:
        """Root mean square difference of the final pixels, 0..1; NaN without two of one size."""
        shown = [t.pictures[i].convert("RGB") for t, i in zip(self.traces, self.images, strict=True) if t.pictures[i:]]
        if len(shown) < 2 or shown[0].size != shown[1].size:
            return np.nan
        ours, theirs = (np.asarray(each, dtype=np.float64)[None] / 255 for each in shown)
        return float(distances.rms(ours, theirs)[0])


def paired(ours: Sequence[int], theirs: Sequence[int], totals: tuple[int, int]) -> list[tuple[int, int]]:
    """Which recorded step of a run stands beside which of another; `totals`: how many steps the runs have."""
    if totals[0] > totals[1]:
        return [(a, b) for b, a in paired(theirs, ours, (totals[1], totals[0]))]
    if totals[0] == totals[1]:
        return [(step, step) for step in ours if step in set(theirs)]
    middles = (2 * np.asarray(theirs) + 1) * totals[0]  # in whole numbers, so that of two as near the first is taken
    return [(step, theirs[int(np.abs(middles - (2 * step + 1) * totals[1]).argmin())]) for step in ours if len(theirs)]


def step_coords(steps: Steps) -> dict[str, Any]:
    """The coordinates of what is compared over steps."""
    return {STEP: steps[0], "second_step": (STEP, steps[1])}
