"""Opened traces and their maps, kept in memory: no widget reads or computes anything twice, none loads a model."""

from dataclasses import dataclass

import streamlit as st
import xarray as xr

import probe
from dashboards.shared import traces
from dashboards.shared.kept import tried
from probe.axes import SPECIAL
from probe.errors import ProbeError
from probe.readings import Choice, chosen_sites, function_words, word_maps
from probe.site import Site
from probe.trace import Trace

NETWORK = {"down": "Down: the way in", "mid": "Middle", "up": "Up: the way out"}


@dataclass(frozen=True)
class Layers:
    """A choice of layers: its name, its sites, and the Python that says the same."""

    name: str
    sites: tuple[Site, ...]
    code: str | None  # the `sites` argument; None for all


@dataclass(frozen=True)
class Opened:
    """A trace with its id and the stamp of what lies on disk, by which all that is computed from it is kept."""

    name: str
    stamp: int
    trace: Trace

    def __hash__(self) -> int:
        return hash((self.name, self.stamp))


@dataclass(frozen=True)
class View:
    """What of a trace is looked at: which layers, one step or the mean over all (None), which picture of the batch."""

    layers: Layers
    step: int | None = None
    image: int = 0
    shared: bool = False  # one colour scale for all words

    @property
    def choice(self) -> Choice:
        """The same for the functions of `probe`."""
        return Choice(self.layers.sites, self.step, self.image)

    @property
    def over_steps(self) -> Choice:
        """The same, over all steps."""
        return Choice(self.layers.sites, image=self.image)


def opened(name: str) -> Opened:
    """The saved trace with this id. Raises BadInput or DamagedFile."""
    folder = traces.find(name)
    manifest = folder / "manifest.json"
    stamp = manifest.stat().st_mtime_ns if manifest.is_file() else 0
    return _open(name, stamp)


@st.cache_resource(max_entries=16, show_spinner=False)
def _open(name: str, stamp: int) -> Opened:
    return Opened(name, stamp, probe.open(traces.find(name)))


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs={Opened: hash, Layers: lambda each: each.name})
def maps(held: Opened, layers: Layers, image: int) -> xr.DataArray:
    """(step, word, y, x) of every word recorded for a picture. Raises what `probe.attention` raises."""
    return word_maps(held.trace, held.trace.labels_of(image), Choice(layers.sites, image=image))


def layer_choices(trace: Trace) -> list[Layers]:
    """All layers, then each part of the network, then each grid, coarse to fine."""
    sites = chosen_sites(trace)
    found = [Layers("All layers", sites, None)]
    parts = dict.fromkeys(map(part, sites))
    if len(parts) > 1:
        found += [_of_part(name, sites) for name in parts]
    grids = sorted({site.grid for site in sites})
    if len(grids) > 1:
        found += [_of_grid(grid, sites) for grid in grids]
    return found


def part(site: Site) -> str:
    """The list of blocks that a site stands in, such as "down_blocks"; the site's group if there is none."""
    return next((step for step in site.path.split(".") if "block" in step), site.group)


def _of_part(name: str, sites: tuple[Site, ...]) -> Layers:
    chosen = tuple(site for site in sites if part(site) == name)
    short = name.removesuffix("_blocks").removesuffix("_block")
    exact = all((name in site.path) == (site in chosen) for site in sites)
    code = repr(name) if exact else repr([site.path for site in chosen])
    return Layers(NETWORK.get(short, short.replace("_", " ").capitalize()), chosen, code)


def _of_grid(grid: tuple[int, int], sites: tuple[Site, ...]) -> Layers:
    chosen = tuple(site for site in sites if site.grid == grid)
    return Layers(f"Only {grid[0]} x {grid[1]} cells", chosen, f"probe.select(trace.sites, grid={grid})")


def planes(held: Opened, view: View) -> xr.DataArray:
    """(word, y, x) of every recorded word: at the step, or the mean over all."""
    found = maps(held, view.layers, view.image)
    return found.mean("step", keep_attrs=True) if view.step is None else found.sel(step=view.step)


def named(trace: Trace, image: int = 0) -> list[str]:
    """Labels of the words and phrases recorded for a picture; of special tokens only if there is nothing else."""
    labels = trace.labels_of(image) if image in trace.along("image") else ()
    return [label for label in labels if label not in SPECIAL] or list(labels)


def leading(trace: Trace, image: int = 0) -> list[str]:
    """The named ones that a page begins with: none that only joins others, such as "a" and "and", if there are more."""
    joining = function_words(trace, image)
    return [label for label in named(trace, image) if label not in joining] or named(trace, image)


def images(trace: Trace) -> list[int]:
    """The pictures of the batch, from 0."""
    return [int(image) for image in trace.along("image")] or [0]


def try_open(name: str) -> Opened | ProbeError:
    """The opened trace, or what is wrong with it."""
    return tried(opened, name)
