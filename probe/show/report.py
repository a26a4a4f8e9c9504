"""The report of one trace: a single HTML file that holds everything it shows and opens no connection."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.readings import UNITS, Choice, chosen_sites, content_words, resize, special_words, word_maps
from probe.show import facts, style
from probe.show.concept import concept_page
from probe.show.methods import side_by_side
from probe.show.nursing import Story, story_page
from probe.show.pack import pack_maps, pack_picture, pack_pictures
from probe.show.page import check_target, publish, render_page
from probe.show.pictures import final_picture, predicted_pictures, predicted_steps
from probe.show.render import figure_data
from probe.show.tables import lens_figure, lens_pictures, table_figure
from probe.show.text import spread
from probe.trace import Trace

CELLS = 1_500_000  # bytes of maps in a page, before compression
SIDE, STEPS = 32, 60  # the finest grid and the most steps that a page carries


@dataclass(frozen=True)
class _Maps:
    """What the page carries of the attention: labels, [step, word, y, x] of all steps, and which steps to ship."""

    labels: tuple[str, ...]
    special: tuple[str, ...]
    values: np.ndarray
    shipped: list[int]  # ranks of steps
    steps: list[int]
    times: list[str]
    recorded: tuple[int, int]


def report(
    trace: Trace,
    path: str | os.PathLike[str],
    *,
    image: int = 0,
    exist_ok: bool = False,
    story: Story | None = None,
) -> Path:
    """Write the report of one picture of a trace as one HTML file and return its path.

    `story`: what to say of the subjects (a diagnosis' sentences), the run without nursing to set beside this one, and
    maps by several methods (`probe.explain.held`), tables (`probe.explain.tables`), a concept of the prompt.
    It opens from disk without a network. The file appears complete or not at all.
    Raises OutputError if it exists (unless `exist_ok`) or cannot be written, NotRecorded if there is no picture.
    """
    target = check_target(path, exist_ok)
    return publish(render_report(trace, image=image, story=story), target)


def render_report(trace: Trace, *, image: int = 0, story: Story | None = None) -> str:
    """The report as a string of HTML."""
    return render_page("report.html.j2", ("report.js", "curves.js"), **_context(trace, image, story))


def _context(trace: Trace, image: int, story: Story | None) -> dict[str, Any]:
    run, maps = trace.run, _maps(trace, image)
    prompt = run.prompt_of(image)
    picture = final_picture(trace, image)
    context: dict[str, Any] = {
        "prompt": prompt,
        "subtitle": _subtitle(trace),
        "picture": pack_picture(picture),
        "width": picture.width,
        "height": picture.height,
        "maps": maps is not None,
        "story": story_page(trace, story, image),
        "explained": _explained(trace, story, image),
        "lens": figure_data(lens_figure(trace)) if lens_pictures(trace) else "",
        "tables": [(title, figure_data(table_figure(each))) for title, each in (story.tables if story else ())],
        "concept": concept_page(story.concept) if story and story.concept else None,
        "units": UNITS,
        "curves": facts.CURVES,
        "lists": {
            "Settings": facts.settings(run),
            "Scheduler": facts.scheduler(run),
            "Versions": sorted(run.versions.items()),
        },
        "data": _data(trace, maps, image),
    }
    return context | (_words(trace, maps, image) if maps else {"rows": []})


def _explained(trace: Trace, story: Story | None, image: int) -> str:
    """Maps by several methods as an address; empty if there are none."""
    return figure_data(side_by_side(trace, story.explained, image=image)) if story and story.explained else ""


def _words(trace: Trace, maps: _Maps, image: int) -> dict[str, Any]:
    """What the page says about words: the prompt in pieces, other labels, the table."""
    cut = facts.pieces(trace.run.prompt_of(image), trace.words_of(image), maps.labels)
    inside = {piece.rank for piece in cut}
    rows = facts.word_rows(maps.labels, maps.values, maps.special)
    rest = 1.0 - sum(row.mean for row in rows)
    sites = chosen_sites(trace)
    height, width = maps.values.shape[-2:]
    reduced = (height, width) != maps.recorded
    note = (
        f"Maps are reduced from {maps.recorded[0]} x {maps.recorded[1]} to {height} x {width} cells." if reduced else ""
    )
    return {
        "pieces": cut,
        "others": [(rank, label) for rank, label in enumerate(maps.labels) if rank not in inside],
        "rows": rows,
        "remainder": rest if rest > 0.001 else None,
        "sites": f"{len(sites)} attention layer{'s' if len(sites) != 1 else ''}",
        "grid_note": note or f"Maps have {height} x {width} cells.",
    }


def _maps(trace: Trace, image: int) -> _Maps | None:
    """The maps of all recorded words, or None if no attention was recorded."""
    if not trace.attention_nodes():
        return None
    special, there = special_words(trace), trace.labels_of(image)
    ordered = [word.label for word in sorted(trace.words_of(image), key=lambda word: word.start)]
    labels = tuple(dict.fromkeys(label for label in (*ordered, *there) if label in there and label not in special))
    labels += special
    maps = word_maps(trace, labels, Choice(image=image))
    recorded = maps.sizes["y"], maps.sizes["x"]
    scale = min(1.0, SIDE / max(recorded))
    small = resize(maps.values, (max(1, round(recorded[0] * scale)), max(1, round(recorded[1] * scale))))
    steps = [int(step) for step in maps["step"].values]
    count = min(STEPS, max(4, CELLS // small[0].size))
    shipped = spread(range(len(steps)), count)
    return _Maps(labels, special, small, shipped, [steps[i] for i in shipped], _times(trace, steps, shipped), recorded)


def _times(trace: Trace, steps: list[int], shipped: list[int]) -> list[str]:
    times = trace.run.timesteps
    return [f"{times[steps[i]]:.0f}" if steps[i] < len(times) else "unknown" for i in shipped]


def _data(trace: Trace, maps: _Maps | None, image: int) -> dict[str, Any]:
    """What the scripts read: sprites of maps and pictures, curves, labels."""
    guidance = facts.guidance(trace, image)
    data: dict[str, Any] = {
        "total": trace.run.steps,
        "colours": style.colour_table(),
        "curves": facts.CURVES,
        "guidance": guidance or None,
        "predicted": _predicted(trace, image),
        "run": trace.run.model_dump(mode="json"),
        "maps": None,
        "steps": guidance.get("step") or predicted_steps(trace) or [0],
    }
    if maps is None:
        return data
    tiles = np.concatenate(
        [maps.values[maps.shipped], maps.values.mean(axis=0, keepdims=True)]
    )  # [step + 1, word, y, x]
    return data | {
        "total": len(maps.values),
        "labels": maps.labels,
        "special": [label in maps.special for label in maps.labels],
        "first": maps.labels.index(_first(trace, maps, image)),
        "steps": maps.steps,
        "times": maps.times,
        "maps": asdict(pack_maps(tiles.reshape(-1, *tiles.shape[2:]))),
    }


def _first(trace: Trace, maps: _Maps, image: int) -> str:
    """The word to show first: the content word with the largest single cell."""
    plain = [label for label in maps.labels if label not in maps.special]
    candidates = [word for word in content_words(trace, image) if word in plain] if plain else maps.labels
    return max(
        candidates or plain, key=lambda label: float(maps.values[:, maps.labels.index(label)].mean(axis=0).max())
    )


def _predicted(trace: Trace, image: int) -> dict[str, Any] | None:
    steps = spread([int(step) for step in predicted_steps(trace)], STEPS)
    pictures = predicted_pictures(trace, steps, image)
    return {**asdict(pack_pictures(pictures)), "steps": steps} if pictures else None


def _subtitle(trace: Trace) -> str:
    run = trace.run
    seed = "" if run.seed is None else f" · seed {run.seed}"
    scale = "" if run.guidance_scale is None else f" · guidance {run.guidance_scale:g}"
    return f"{run.model}{seed} · {run.steps} steps{scale} · {run.width} x {run.height} pixels"
