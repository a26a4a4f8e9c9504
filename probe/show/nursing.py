"""Figures of nursing: what the loss did, how far the latents were moved, and the picture before and after."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from probe.errors import BadInput, NotRecorded
from probe.heatmap import Heatmap
from probe.readings import ALL, UNITS, Choice, content_words
from probe.show import style
from probe.show.concept import ConceptCard
from probe.show.curves import legend, line, name_axes, panels, step_axis
from probe.show.pictures import final_picture
from probe.show.render import (
    colour_scale,
    figure_data,
    heading,
    overlay,
    picture_rows,
    scale_of,
    show_picture,
    word_heatmaps,
)
from probe.show.text import shorten
from probe.trace import Trace

LOSS, EACH, MOVED = (
    "The loss, at every iteration",
    "Each subject, as the method measures it",
    "How far latents were moved",
)
COLUMNS = 4  # words beside the pictures


@dataclass(frozen=True)
class Story:
    """What a report says of the subjects: verdicts in words, the run without nursing beside this one, and maps of words
    by several methods, which it sets side by side; titled tables by word and layer; and what the model means by a
    phrase of the prompt."""

    told: Sequence[str] = ()
    before: Sequence[str] = ()
    plain: Trace | None = None
    explained: Sequence[Heatmap] = ()
    concept: ConceptCard | None = None
    tables: Sequence[tuple[str, xr.DataArray]] = ()


def nursing_log(trace: Trace, image: int = 0) -> list[Mapping[str, Any]]:
    """What interventions did to the latents of a picture, step by step; empty if none did."""
    return [entry for entry in trace.extra.get("nursing", ()) if entry.get("image") == image and entry.get("losses")]


def has_nursing(trace: Trace, image: int = 0) -> bool:
    """Whether an intervention moved the latents of a picture, so that `nursing_curves` can be drawn."""
    return bool(nursing_log(trace, image))


def methods(trace: Trace) -> tuple[str, ...]:
    """The interventions that moved latents, in the order in which they did."""
    return tuple(dict.fromkeys(str(entry["method"]) for entry in trace.extra.get("nursing", ())))


def nursing_curves(trace: Trace, *, image: int = 0) -> Figure:
    """Over steps: the loss of every iteration, what the method measured of each subject, how far the latents moved.

    Iterations of one step lie between it and the next. Shifts are shares of the latents' norm where that was recorded,
    else in units of the latents. Raises NotRecorded.
    """
    log = nursing_log(trace, image)
    if not log:
        raise NotRecorded(
            "this trace holds no nursing; record it with "
            "probe.record(pipe, interventions=[probe.nurse.AttendAndExcite(subjects=(...))])"
        )
    figure, (loss, each, moved) = panels(3)
    for rank, method in enumerate(dict.fromkeys(entry["method"] for entry in log)):
        own = [entry for entry in log if entry["method"] == method]
        line(loss, _curve([point for entry in own for point in _points(entry, None)]), method, rank)
        line(moved, _shifts(own), method, rank)
    for rank, subject in enumerate(_subjects(log)):
        line(each, _curve(iterations(trace, subject, image=image)), shorten(subject, 18), rank)
    units = "share of their norm" if all(entry.get("norm") for entry in log) else "latents"
    for ax, title, unit in ((loss, LOSS, "loss"), (each, EACH, "value"), (moved, MOVED, units)):
        name_axes(ax, title, unit)
    legend(each if _subjects(log) else loss)
    step_axis(moved)
    return figure


def before_after(plain: Trace, nursed: Trace, words: Sequence[str] | None = None, *, choice: Choice = ALL) -> Figure:
    """Two runs below each other: the picture, and the map of each word (default: the nursed ones) over it.

    All maps have one scale. Raises BadInput for runs of two prompts, NoSuchWord, NotRecorded.
    """
    if plain.run.prompts != nursed.run.prompts:
        raise BadInput(f"{plain.prompt!r} and {nursed.prompt!r} are two prompts: compare runs of one")
    chosen = tuple(words) if words is not None else _words(nursed, choice.image)
    rows = [(name, trace, word_heatmaps(trace, chosen, choice)) for name, trace in _named(plain, nursed)]
    limits = scale_of([heatmap for _, _, found in rows for heatmap in found])
    figure, axes = picture_rows(2, 1 + len(chosen), nursed.run.height / nursed.run.width)
    for places, (name, trace, found) in zip(axes, rows, strict=True):
        picture = final_picture(trace, choice.image)
        show_picture(places[0], picture, "")
        places[0].set_ylabel(shorten(name, 20), **style.type_of(style.LABEL))
        for ax, heatmap in zip(places[1:], found, strict=True):
            overlay(picture, heatmap, ax=ax, scale=limits)
    for ax in axes[1][1:]:
        ax.set_title("")
    colour_scale(figure, [ax for places in axes for ax in places], limits, UNITS)
    heading(figure, nursed, choice.image)
    return figure


def story_page(trace: Trace, story: Story | None, image: int) -> dict[str, Any] | None:
    """What a report's page says of subjects and nursing: sentences, and figures as addresses; None if nothing."""
    given = story or Story()
    if not (given.told or given.before or given.plain or nursing_log(trace, image)):
        return None
    figures = {}
    if given.plain is not None:
        figures["The picture before and after, with the maps of the subjects"] = figure_data(
            before_after(given.plain, trace, choice=Choice(image=image))
        )
    if nursing_log(trace, image):
        figures["Loss, subjects and shifts of the latents over the steps"] = figure_data(
            nursing_curves(trace, image=image)
        )
    return {"told": given.told, "before": given.before, "figures": figures, "methods": ", ".join(methods(trace))}


def iterations(trace: Trace, subject: str | None = None, *, image: int = 0) -> list[tuple[float, float]]:
    """(step, loss) of every iteration, or what the method measured of a subject; between its step and the next.

    NaN where a subject was not looked at.
    """
    log = nursing_log(trace, image)
    return [point for entry in log for point in _points(entry, subject)]


def nursed(trace: Trace, image: int = 0) -> list[str]:
    """The words of which the methods measured something."""
    return _subjects(nursing_log(trace, image))


def _points(entry: Mapping[str, Any], subject: str | None) -> list[tuple[float, float]]:
    values = entry["losses"] if subject is None else [each.get(subject, math.nan) for each in entry["subjects"]]
    return [(entry["step"] + i / len(values), value) for i, value in enumerate(values)]


def _curve(points: Sequence[tuple[float, float]]) -> xr.DataArray:
    steps, values = zip(*points, strict=True)
    return xr.DataArray(list(values), dims="step", coords={"step": list(steps)})


def _shifts(log: Sequence[Mapping[str, Any]]) -> xr.DataArray:
    values = [entry["shift"] / (entry.get("norm") or 1.0) for entry in log]
    return xr.DataArray(values, dims="step", coords={"step": [entry["step"] for entry in log]})


def _subjects(log: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for entry in log for values in entry.get("subjects", ()) for name in values))


def _words(trace: Trace, image: int) -> tuple[str, ...]:
    nursed = [word for word in _subjects(nursing_log(trace, image)) if word in trace.labels]
    return tuple(nursed or content_words(trace, image))[:COLUMNS]


def _named(plain: Trace, nursed: Trace) -> list[tuple[str, Trace]]:
    return [("plain", plain), (", ".join(methods(nursed)) or "nursed", nursed)]
