"""Readings of a trace as maps of words: what explainers and figures both start from. Needs no torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from PIL import Image

from probe.axes import FRAME, SPECIAL, Branch
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.site import Site, select
from probe.trace import Trace

UNITS = "share of a cell's attention"
Sites = str | Sequence[str] | Sequence[Site] | None
Steps = int | slice | Sequence[int] | None
Heads = int | Sequence[int] | None


@dataclass(frozen=True)
class Choice:
    """Which readings: sites (a pattern, patterns or Sites), steps (as Python indices), picture of the batch, branch.

    `frame` is one frame of a film's latents, as a Python index, and None the mean over all; pictures have none.
    `heads` are numbers of heads that were kept apart, where a site has them; None is the mean over all heads.
    """

    sites: Sites = None
    steps: Steps = None
    image: int = 0
    branch: Branch = "cond"
    frame: int | None = None
    heads: Heads = None


ALL = Choice()


def word_maps(trace: Trace, words: Sequence[str], choice: Choice = ALL) -> xr.DataArray:
    """(step, word, y, x) float32: the mean over the chosen sites of the probability that a cell gives to each word.

    Sites of different grids are brought to the finest chosen grid, bilinear, and every site counts alike; of a film it
    is the mean over frames, unless one is chosen.
    Raises NoSuchWord, also for a word of another picture's prompt, NoMatch (sites, steps) or NotRecorded (nothing there
    for the steps, picture, branch, frame or heads).
    """
    heads = [choice.heads] if isinstance(choice.heads, int) else choice.heads
    nodes = _nodes(trace) if heads is None else _of_heads(trace, heads)
    labels = [trace.word(word) for word in words]
    sites = chosen_sites(trace, choice.sites)
    paths = {site.path for site in sites if heads is None or min(heads) < site.heads}
    parts = [_read(node, paths, labels, choice, trace) for node in nodes if not paths.isdisjoint(_paths(node))]
    if not parts:
        raise NotRecorded(f"no chosen site has head {_listed(heads or [])}; choose others, or leave sites out")
    weights = np.array([part.attrs["sites"] for part in parts], dtype=np.float64)
    planes = [resize(part.values, parts[-1].shape[-2:]) for part in parts]
    mean = np.tensordot(weights / weights.sum(), np.stack(planes), axes=1)  # [step, word, y, x]
    _check_read(labels, np.asarray(np.isnan(mean).all((0, 2, 3))), choice, trace)
    found = {f"{part.sizes['y']}x{part.sizes['x']}": int(part.attrs["sites"]) for part in parts}
    return parts[-1].copy(data=mean.astype(np.float32)).assign_attrs(units=UNITS, sites=found)


def frame_maps(trace: Trace, word: str, choice: Choice = ALL) -> xr.DataArray:
    """(frame, y, x) float32: a word's map in each frame of a film's latents, the mean over the chosen sites and steps.

    Raises what `word_maps` raises; NotRecorded for a trace of pictures.
    """
    each = (replace(choice, frame=frame) for frame in range(frames(trace)))
    return xr.concat([word_maps(trace, [word], one).isel(word=0).mean("step") for one in each], FRAME)


def frames(trace: Trace) -> int:
    """How many frames of a film's latents were read apart; 1 where pictures were made."""
    return next((node.sizes.get(FRAME, 1) for node in trace.attention_nodes()), 1)


def of_frame(array: xr.DataArray, frame: int | None) -> xr.DataArray:
    """One frame of an array, or with None the mean over all; pictures have none and stay. Raises NotRecorded."""
    count = array.sizes.get(FRAME, 0)
    if frame is None:
        return array.mean(FRAME, dtype=np.float64, keep_attrs=True) if count else array
    if not -count <= frame < count:
        there = f"its latents have {count}, from 0" if count else "it is of pictures, so leave `frame` out"
        raise NotRecorded(f"this trace has no frame {frame}: {there}")
    return array.isel({FRAME: frame}, drop=True)


def chosen_sites(trace: Trace, sites: Sites = None) -> tuple[Site, ...]:
    """The sites of a trace that hold attention readings and match. Raises NoMatch, NotRecorded."""
    held = {str(path) for node in _nodes(trace) for path in node["site"].values}
    read = [site for site in trace.sites if site.path in held]  # others hold relations only
    if sites is None or isinstance(sites, str):
        wanted = select(read, sites)
    else:
        chosen = {site.path: site for site in sites if isinstance(site, Site)}
        patterns = [site for site in sites if isinstance(site, str)]
        if patterns or not chosen:
            chosen |= {site.path: site for site in select(read, patterns)}
        wanted = tuple(sorted(chosen.values()))
    absent = [site.path for site in wanted if site.path not in held]
    if absent:
        raise NotRecorded(f"no readings of {', '.join(absent)} in this trace; recorded are: {', '.join(sorted(held))}")
    return wanted


def resize(planes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Maps [..., y, x] on another grid (height, width), bilinear."""
    if planes.shape[-2:] == shape:
        return planes
    height, width = shape
    flat = planes.reshape(-1, *planes.shape[-2:]).astype(np.float32)
    resized = [Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR) for p in flat]
    return np.stack([np.asarray(plane) for plane in resized]).reshape(*planes.shape[:-2], height, width)


def content_words(trace: Trace, image: int = 0) -> tuple[str, ...]:
    """Labels of the recorded content words in the order of a picture's prompt; all recorded words if none is one."""
    labels = trace.labels
    recorded = [word for word in sorted(trace.words_of(image), key=lambda word: word.start) if word.label in labels]
    chosen = [word for word in recorded if word.content] or recorded
    if not chosen:
        raise NoSuchWord(f"no word of {trace.run.prompt_of(image)!r} was recorded; record again with words=[...]")
    return tuple(word.label for word in chosen)


def function_words(trace: Trace, image: int = 0) -> set[str]:
    """Labels of the words of a picture's prompt that only join others, such as "a" and "and"."""
    return {word.label for word in trace.words_of(image) if not word.content}


def special_words(trace: Trace) -> tuple[str, ...]:
    """Labels of the recorded special tokens (start, end, padding)."""
    return tuple(label for label in trace.labels if label in SPECIAL)


def _nodes(trace: Trace) -> Sequence[xr.Dataset]:
    nodes = trace.attention_nodes()
    if not nodes:
        raise NotRecorded("this trace holds no attention; record it with probe.record(pipe, words=[...])")
    return nodes


def _of_heads(trace: Trace, asked: Sequence[int]) -> list[xr.Dataset]:
    """The nodes that keep one of these heads apart. Raises NotRecorded."""
    nodes = trace.attention_nodes("heads")
    if not nodes:
        raise NotRecorded('this trace keeps no heads apart; record it with probe.record(pipe, heads="all")')
    there = sorted({head for node in nodes for head in node["head"].values.tolist()})
    absent = [head for head in asked if head not in there]
    if absent or not asked:
        raise NotRecorded(
            f"head {_listed(absent) or 'none'} was not kept apart; this trace holds head {_listed(there)}"
        )
    return [node for node in nodes if not set(asked).isdisjoint(node["head"].values.tolist())]


def _paths(node: xr.Dataset) -> list[str]:
    return [str(path) for path in node["site"].values]


def _read(
    node: xr.Dataset, paths: Collection[str], labels: Sequence[str], choice: Choice, trace: Trace
) -> xr.DataArray:
    """(step, word, y, x) of one grid: the mean over its chosen sites; attrs["sites"] is their number."""
    part = picked(node, paths, labels, choice, trace)["attention"]
    if choice.heads is not None:  # of a site that has fewer heads, those that it has
        part = part.isel(head=np.isin(part["head"].values, choice.heads)).mean("head", dtype=np.float64)
    mean = of_frame(part, choice.frame).mean("site", dtype=np.float64).transpose("step", "word", "y", "x")
    return mean.drop_vars(["branch", "image"], errors="ignore").assign_attrs(sites=part.sizes["site"])


def picked(node: xr.Dataset, paths: Collection[str], labels: Sequence[str], choice: Choice, trace: Trace) -> xr.Dataset:
    """A grid's readings (site, step, ..., word, y, x) of these sites and words, and of a choice's steps, image, branch.

    Raises NotRecorded, NoMatch.
    """
    there = {axis: node[axis].values.tolist() for axis in ("step", "word", "branch", "image")}
    for axis, wanted in (("branch", choice.branch), ("image", choice.image)):
        if wanted not in there[axis]:
            raise NotRecorded(f"{axis} {wanted!r} was not recorded; this trace holds {axis} {_listed(there[axis])}")
    return node.isel(  # by place: looking labels up costs more than reading what they name
        site=span([i for i, path in enumerate(_paths(node)) if path in paths]),
        step=span([there["step"].index(step) for step in chosen_steps(choice.steps, there["step"], trace.run.steps)]),
        word=span([there["word"].index(label) for label in labels]),
        branch=there["branch"].index(choice.branch),
        image=there["image"].index(choice.image),
    )


def span(places: list[int]) -> slice | list[int]:
    """Places on an axis as a slice where they follow one another: a stored array is read twice as fast by one."""
    first, last = (places[0], places[-1]) if places else (0, -1)
    return slice(first, last + 1) if places == list(range(first, last + 1)) else places


def _check_read(labels: Sequence[str], silent: np.ndarray, choice: Choice, trace: Trace) -> None:
    """A word without any reading is an error: it is of another prompt, or no encoder's columns hold it."""
    lost = [label for label, nothing in zip(labels, silent, strict=True) if nothing]
    if lost:
        raise NoSuchWord(trace.silence(lost[0], choice.image, choice.branch))


def chosen_steps(wanted: Steps, there: list[int], total: int) -> list[int]:
    """Step numbers to read. A slice takes what was recorded of it; a number that was not recorded is an error."""
    if wanted is None:
        return there
    if isinstance(wanted, slice):
        inside = range(*wanted.indices(total))
        chosen = [step for step in there if step in inside]
    else:
        numbers = [wanted] if isinstance(wanted, int) else list(wanted)
        chosen = [step + total if step < 0 else step for step in numbers]
    if not chosen:
        raise NoMatch(f"steps={wanted!r} selects none of the recorded steps {_listed(there)}")
    absent = [step for step in chosen if step not in there]
    if absent:
        raise NotRecorded(f"step {_listed(absent)} was not recorded; this trace holds step {_listed(there)}")
    return chosen


def _listed(values: Sequence[object]) -> str:
    shown = [repr(value) if isinstance(value, str) else str(value) for value in values]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:6], "...", *shown[-3:]])
