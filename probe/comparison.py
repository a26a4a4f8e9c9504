"""A comparison of two traces: which settings differ, and how far maps, guidance and latents went apart.

Each part is an xarray Dataset over `step`, a step of the first trace; where the runs differ in length, `second_step`
is the step of the second that it was set beside. `trace` is "first" or "second". A part that could not be compared is
empty, and `notes` says what to record for it.

maps        share (trace, step, word, y, x): what a cell gives to a word, mean over all sites
distances   over (group, step, word), of the maps of a group of sites ("all", "down", "mid", "up", ...):
            correlation   -1..1, Pearson's over the cells; missing for a flat map
            divergence    bits, 0..1: Jensen-Shannon's, of the maps brought to a sum of 1
            shift         cells: how far the centre of mass moved; shift_y (down), shift_x (to the right)
            amount        (trace, ...) share of a cell's attention, mean over the cells
guidance    difference_norm and other norms (trace, step); cosine (step) of the two guidances
latents     latents (before the step), predicted, thumbnails (0..1): root mean square difference (step)
mass        share (trace, kind, step) of a cell's attention by class of token, mean over the cells: "content" and
            "other" words, the special tokens, and what was "not recorded", the rest to 1
"""

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import xarray as xr

from probe.errors import NoMatch, NotRecorded
from probe.trace import Trace, inline

ALL = "all"
FIRST, SECOND = SIDES = ("first", "second")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two traces and how far they are apart; see the module's docstring for the parts.

    `settings`: one row a field that differs (setting, first, second). `alone`: the words of only one of the traces.
    `picture`: root mean square difference of the final pixels, 0..1; NaN where there are no two of one size.
    """

    first: Trace
    second: Trace
    images: tuple[int, int]
    settings: pd.DataFrame
    alone: Mapping[str, tuple[str, ...]]
    picture: float
    maps: xr.Dataset
    distances: xr.Dataset
    guidance: xr.Dataset
    latents: xr.Dataset
    mass: xr.Dataset
    notes: tuple[str, ...] = ()

    PARTS: ClassVar[tuple[str, ...]] = ("distances", "guidance", "latents", "mass")
    COLUMNS: ClassVar[tuple[str, ...]] = ("part", "measure", "group", "kind", "word", "trace", "step", "value")

    @property
    def words(self) -> tuple[str, ...]:
        """The words that were compared, as the first trace spells them."""
        return tuple(self.distances["word"].values.tolist()) if "word" in self.distances else ()

    @property
    def traces(self) -> tuple[Trace, Trace]:
        """Both."""
        return self.first, self.second

    def ranked(self, group: str = ALL) -> pd.DataFrame:
        """One row a word, the one whose map moved farthest (most divergence) on top; means over the steps.

        Raises NotRecorded where no maps could be compared, NoMatch for a group that there is not.
        """
        if not self.words:
            raise NotRecorded("; ".join(self.notes))
        groups = self.distances["group"].values.tolist()
        if group not in groups:
            raise NoMatch(f"no group {group!r} of sites is in both traces; there are: {', '.join(groups)}")
        means = self.distances.sel(group=group).mean("step")
        amounts = {f"amount_{side}": means["amount"].sel(trace=side).values for side in SIDES}
        names = ("divergence", "correlation", "shift", "shift_y", "shift_x")
        columns = {"word": self.words, **{name: means[name].values for name in names}, **amounts}
        return pd.DataFrame(columns).sort_values("divergence", ascending=False, kind="stable", ignore_index=True)

    def table(self) -> pd.DataFrame:
        """Every number of every step, one a row; the maps themselves are in `maps`."""
        rows = pd.concat(list(self._rows()), ignore_index=True) if any(map(self._held, self.PARTS)) else pd.DataFrame()
        return rows.reindex(columns=list(self.COLUMNS))

    def _rows(self) -> Iterator[pd.DataFrame]:
        for part in filter(self._held, self.PARTS):
            for name, array in getattr(self, part).data_vars.items():
                yield array.to_dataframe("value").reset_index().assign(part=part, measure=name)

    def _held(self, part: str) -> bool:
        return bool(getattr(self, part).data_vars)

    def __str__(self) -> str:
        same = "no recorded setting differs"
        told = self.settings.to_string(index=False, max_colwidth=48) if len(self.settings) else same
        lines = [f"Comparison of {self.first.prompt!r} and {self.second.prompt!r}", told]
        if self.words:
            lines.append(self.ranked().to_string(index=False, float_format="{:.3g}".format))
        lines += [f"words of the {side} only: {', '.join(words)}" for side, words in self.alone.items() if words]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        small = "".join(inline(t.pictures[i]) for t, i in zip(self.traces, self.images, strict=True) if t.pictures[i:])
        tables = [self.settings.to_html(index=False, border=0)]
        if self.words:
            tables.append(self.ranked().to_html(index=False, border=0, float_format="{:.3g}".format))
        alone = [f"words of the {side} only: {', '.join(words)}" for side, words in self.alone.items() if words]
        notes = "".join(f"<br><small>{html.escape(note)}</small>" for note in (*alone, *self.notes))
        prompts = " and ".join(html.escape(trace.prompt[:300]) for trace in self.traces)
        return f"<div><b>Comparison</b> of {prompts}<br>{small}{''.join(tables)}{notes}</div>"
