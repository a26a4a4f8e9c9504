"""`probe trace`: one prompt becomes a picture, a trace, figures and a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

import probe
from probe.cli import output, say
from probe.cli.drawing import arguments_of, check_prompt, generate, load, look, recorded
from probe.cli.parser import trace_options
from probe.cli.values import integers, split
from probe.errors import BadInput
from probe.explain import METHODS, held, needs
from probe.explain.tables import TABLES, table, tables
from probe.readings import content_words, frames
from probe.subjects import find_subjects

STRIPS = 8  # more than anyone looks at
COMPARED = 4  # words by every method, in the report


def run(options: Namespace) -> int:
    """Everything is checked that can be before the model is loaded; nothing is visible before everything is there."""
    check_prompt(options.prompt, "trace")
    asked: dict[str, Any] = inquired(split(options.explain), split(options.concepts), options.patch)
    asked["explain"] = at_steps(asked["explain"], options.at)
    depths(options)
    special = ["*"] if "special" in split(options.explain) else []  # all words, and the tokens that are none
    asked["words"] = [*split(options.words), *special] or None
    if options.dry_run:
        return _estimate(options, asked)
    target = output.target_of(options, options.prompt)
    with output.folder(target, options, trace_options) as work:
        pipe = load(options)
        trace = look(pipe, options, **asked) if options.image else generate(pipe, options, **asked)
        trace = probe.decode_thumbnails(trace, pipe)
        figures = _write(_lens(trace, pipe, options) if options.lens else trace, work, options)
    _announce(trace, target, figures)
    return 0


def _estimate(options: Namespace, asked: dict[str, Any]) -> int:
    """Say what a recording would hold. Raises BadInput for a picture, which is not drawn."""
    if options.image:
        raise BadInput("--dry-run is for an image that is to be generated, and --image gives one: leave one out")
    estimate = recorded(load(options), options, **asked, dry_run=True).estimate
    say.result(f"the recording would hold about {estimate}; nothing was drawn or written")
    return 0


def inquired(names: Sequence[str], concepts: Sequence[str] = (), patch: str | None = None) -> dict[str, Any]:
    """What `probe.record` is asked for, so that these explainers and tables can read it. Raises BadInput."""
    if "patching" in names and not patch:
        raise BadInput("patching needs a second prompt to compare with; give one: --patch 'a blue cat'")
    listed = [each for each in TABLES if each.name in names]
    chosen = [name for name in names if name not in {each.name for each in listed}]
    unknown = [name for name in chosen if name not in {each.name for each in METHODS}]
    if unknown:
        known = ", ".join(each.name for each in (*METHODS, *TABLES))
        raise BadInput(f"there is no explainer or table {unknown[0]!r}; there are: {known}")
    inquiries, relations = needs([*chosen, *["concept_attention"] * bool(concepts)])
    given = {"Concepts": {"words": tuple(concepts)}}
    found = [getattr(probe, name)(**given.get(name, {})) for name in inquiries]
    found += [getattr(probe, each.inquiry)(**each.options) for each in listed if each.inquiry]
    found += [probe.Patching(source=patch)] if patch else []
    further = [relation for each in listed for relation in each.relations]
    return {"explain": found, "relations": list(dict.fromkeys([*relations, *further]))}


def at_steps(inquiries: Sequence[Any], text: str | None) -> list[Any]:
    """The inquiries, asked at these steps; None leaves them as they are. Raises BadInput."""
    if text is None:
        return list(inquiries)
    if not inquiries:
        raise BadInput(
            "--at says at which steps extra passes run, and no explainer that needs any was asked for: add --explain"
        )
    steps = tuple(integers(text, "--at", "steps with commas, such as 0,10"))
    return [each.model_copy(update={"steps": steps}) for each in inquiries]


def depths(options: Namespace) -> list[int] | None:
    """The depths of a lens; None are all. Raises BadInput."""
    if options.lens is None:
        return None
    if options.image:
        raise BadInput("--lens generates images from the prompt, and --image gives one: leave one of them out")
    if options.lens == "all":
        return None
    return integers(options.lens, "--lens", "numbers of layers with commas, such as 0,2,4, or all")


def _lens(trace: "probe.Trace", pipe: Any, options: Namespace) -> "probe.Trace":
    """The trace with the pictures of an encoder that ends early."""
    call = {name: value for name, value in arguments_of(pipe, options).items() if name not in ("prompt", "generator")}
    with Console(stderr=True).status("drawing with fewer layers of the text encoder"):
        return probe.with_lens(trace, probe.lens(pipe, options.prompt, depths(options), seed=options.seed, **call))


def _write(trace: "probe.Trace", work: Path, options: Namespace) -> list[str]:
    """Everything of one result into `work`; returns the names of the figures."""
    trace.pictures[0].save(work / "picture.png")
    trace.save(work / "trace")
    explained = [heatmap for word in _subjects(trace)[:COMPARED] for heatmap in held(trace, word).values()]
    wanted = {*split(options.explain), *(["patching"] if options.patch else [])}
    found = [(table(name).title, each) for name, each in tables(trace).items() if name in wanted]
    probe.show.report(trace, work / "report.html", story=probe.show.Story(explained=explained, tables=found))
    names = _figures(trace, work / "figures")
    return names + (_animations(trace, work / "figures") if options.animate else [])


def _figures(trace: "probe.Trace", folder: Path) -> list[str]:
    """Overlays, a strip for each subject, of a film one over its frames too, and the guidance curve; as PNG and SVG."""
    folder.mkdir()
    figures = {"overlays": probe.show.overlays(trace)}
    for rank, word in enumerate(_subjects(trace)[:STRIPS], start=1):
        figures[f"strip-{rank}-{output.slug(word)}"] = probe.show.strip(trace, word)
        if frames(trace) > 1:
            figures[f"film-{rank}-{output.slug(word)}"] = probe.show.film_strip(trace, word)
    if probe.show.lens_pictures(trace):
        figures["lens"] = probe.show.lens_figure(trace)
    if "guidance" in trace.tree.children and "difference_norm" in trace.node("guidance"):
        figures["guidance"] = probe.show.guidance_curve(trace)
    return output.save(figures, folder)


def _animations(trace: "probe.Trace", folder: Path) -> list[str]:
    """A GIF over the steps for each subject, of a film one over its pictures too; returns their names."""
    kinds = {"steps": probe.show.animation} | ({"film": probe.show.film} if frames(trace) > 1 else {})
    named = [(rank, word, kind) for rank, word in enumerate(_subjects(trace)[:STRIPS], start=1) for kind in kinds]
    paths = [folder / f"{kind}-{rank}-{output.slug(word)}.gif" for rank, word, kind in named]
    return [kinds[kind](trace, word).save(path).name for (_, word, kind), path in zip(named, paths, strict=True)]


def _subjects(trace: "probe.Trace") -> list[str]:
    """The recorded words that are things; all recorded words of content if none is one."""
    things = [subject.label for subject in find_subjects(trace.prompt) if subject.label in trace.labels]
    return things or list(content_words(trace))


def _announce(trace: "probe.Trace", target: Path, figures: list[str]) -> None:
    run = trace.run
    say.result(f"{run.prompts[0]!r}: {run.steps} steps, seed {run.seed}, {run.seconds:.1f} s, {len(trace.sites)} sites")
    for name, what in {
        "picture.png": "the picture",
        "figures": ", ".join(figures),
        "trace": "the record; open it with probe.open, or in the dashboard",
        "report.html": "the report; open it in a browser",
    }.items():
        say.result(f"  {target / name}  {what}")
