"""From kept readings to datasets, one a grid: the one move from the model's device to the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.attach.kept.keeping import Place, Reading
from probe.attach.take import Take
from probe.axes import BRANCH, FRAME, HEAD, IMAGE, READING, SITE, WORD
from probe.errors import MissingReadings
from probe.site import Site

Sites = dict[Place, Site]


def attention_nodes(take: Take) -> dict[str, xr.Dataset]:
    """Means over heads in /attention, and chosen heads in /heads, for each grid that words were read on."""
    places, labels = take.attention.readings(), labels_of(take)
    _check_steps(take)
    nodes: dict[str, xr.Dataset] = {}
    for name, sites in by_grid(places).items() if labels else ():
        both = _Grid(take, sites, labels).datasets()
        nodes |= {f"/{kind}/{name}": dataset for kind, dataset in both.items()}
    return nodes


def _check_steps(take: Take) -> None:
    """Steps that were named must have run. Raises MissingReadings."""
    kept = take.attention.kept
    late = [step for steps in kept.slots.slots for step in steps if step >= take.step]
    if late and isinstance(kept.wish.steps, tuple):
        raise MissingReadings(
            f"step {late[0]} was selected, but the run ended after {take.step} of {kept.total} steps; "
            "select steps that run"
        )


def by_grid(places: Sites) -> dict[str, Sites]:
    """The sites of each grid, by its name: "16x16", or "3x16x16" for films."""
    grids: dict[str, Sites] = {}
    for place, site in places.items():
        shape = site.grid if site.frames == 1 else (site.frames, *site.grid)
        grids.setdefault("x".join(map(str, shape)), {})[place] = site
    return grids


def labels_of(take: Take) -> list[str]:
    """Labels of all prompts of the wanted branches, in order of appearance."""
    reader = take.attention
    wanted = [lexicon for (branch, _), lexicon in reader.lexicons.items() if branch in reader.branches]
    return list(dict.fromkeys(label for lexicon in wanted for label in lexicon.labels))


class _Grid:
    """The arrays of one grid. NaN stands for words that a prompt lacks, heads that a site lacks, resting branches."""

    def __init__(self, take: Take, sites: Sites, labels: Sequence[str]):
        self.take, self.sites, self.labels = take, sites, labels
        kept = take.attention.kept
        there = kept.branches()
        self.branches = [branch for branch in take.attention.branches if branch in there]
        self.images = kept.images()
        self.slots = [slot for slot, steps in enumerate(kept.slots.slots) if steps[0] < take.step]
        found = {head for site in sites.values() for head in kept.wish.chosen_heads(site.heads)}
        self.heads = sorted(found)
        site = next(iter(sites.values()))
        self.shape = (*((site.frames,) if site.frames > 1 else ()), *site.grid)

    def datasets(self) -> dict[str, xr.Dataset]:
        """By name of the parent node."""
        sizes = (len(self.sites), len(self.slots), len(self.branches), len(self.images))
        means = np.full((*sizes, len(self.labels), *self.shape), np.nan, np.float32)
        heads = np.full((*sizes, len(self.heads), len(self.labels), *self.shape), np.nan, np.float32)
        for s, place in enumerate(self.sites):
            for t, slot in enumerate(self.slots):
                for b, branch in enumerate(self.branches):
                    found = self._found(slot, place, branch)
                    for image, reading in found.items():
                        at = (s, t, b, self.images.index(image))
                        self._fill(means[at], heads[at], reading, branch, self.sites[place])
        axes = (*READING[:-2], *((FRAME,) if len(self.shape) == 3 else ()), *READING[-2:])
        kinds = {"attention": xr.Dataset({"attention": (axes, means)}, coords=self._coords())}
        if self.heads:
            own = (*axes[:4], HEAD, *axes[4:])
            kinds["heads"] = xr.Dataset({"attention": (own, heads)}, coords=self._coords() | {HEAD: self.heads})
        return kinds

    def _found(self, slot: int, place: Place, branch: str) -> dict[int, Reading]:
        """The readings of a group of steps. Raises MissingReadings where there should be some."""
        reader = self.take.attention
        found = reader.kept.pop(slot, place, branch)
        steps = reader.kept.slots.slots[slot]
        denoiser = place[0].partition(".")[0]
        ran = [step for step in steps if (step, denoiser, branch) in reader.ran]
        whole = all(reading.count == len(ran) for reading in found.values()) and (bool(found) or not ran)
        if not whole and "#" not in branch and branch in {whose[0] for whose in reader.lexicons}:
            raise MissingReadings(
                f"site {place[0]} gave no reading at step {ran[0]} (branch {branch}); it did at others. "
                "Record it alone (sites=...) or switch off what skips it (caches, layer skipping)"
            )
        return found

    def _fill(self, means: np.ndarray, heads: np.ndarray, reading: Reading, branch: str, site: Site) -> None:
        """One picture's arrays: means [word, ...], heads [head, word, ...]."""
        own = self.take.attention.lexicons[branch, reading.prompt].labels
        words = [self.labels.index(label) for label in own]
        means[words] = (reading.mean / reading.count).cpu().numpy().reshape(len(own), *self.shape)
        if reading.heads is not None:
            chosen = [self.heads.index(head) for head in self.take.attention.kept.wish.chosen_heads(site.heads)]
            values = (reading.heads / reading.count).cpu().numpy().reshape(len(chosen), len(own), *self.shape)
            heads[np.ix_(chosen, words)] = values

    def _coords(self) -> dict[str, Any]:
        clock = self.take.attention.kept.clock(self.take.guidance.timesteps)
        paths = [site.path for site in self.sites.values()]
        return {SITE: paths, **clock, BRANCH: self.branches, IMAGE: self.images, WORD: list(self.labels)}
