"""`probe trace`: one prompt becomes a picture, a trace, figures and a report."""

import inspect
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import probe
from probe.cli import output, say
from probe.cli.parser import settings
from probe.errors import BadInput, BadPrompt, ProbeWarning
from probe.explain import METHODS, held, needs
from probe.explain.tables import TABLES, table, tables
from probe.readings import content_words, frames
from probe.store.folder import new_folder
from probe.subjects import find_subjects

STRIPS = 8  # more than anyone looks at
COMPARED = 4  # words by every method, in the report
FELL_OFF = r"the end of .* fell off"
BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def run(options: Namespace) -> int:
    """Everything is checked that can be before the model is loaded; nothing is visible before everything is there."""
    check_prompt(options.prompt, "trace")
    asked: dict[str, Any] = inquired(split(options.explain), split(options.concepts), options.patch)
    asked["explain"] = at_steps(asked["explain"], options.at)
    depths(options)
    target = output.choose(options.out, options.prompt)
    if not options.overwrite:
        output.refuse(target)
    with new_folder(target, replaces=output.replaceable) as work:
        pipe = load(options.model)
        special = ["*"] if "special" in split(options.explain) else []  # all words, and the tokens that are none
        asked["words"] = [*split(options.words), *special] or None
        trace = look(pipe, options, **asked) if options.image else generate(pipe, options, **asked)
        trace = probe.decode_thumbnails(trace, pipe)
        figures = _write(_lens(trace, pipe, options) if options.lens else trace, work, options)
    _announce(trace, target, figures)
    return 0


def check_prompt(prompt: str, command: str) -> None:
    """Raises BadPrompt for an empty prompt."""
    if not prompt.strip():
        raise BadPrompt(
            f"the prompt is empty. Say what to draw, for example: probe {command} 'a cat and a red balloon'"
        )


def load(model: str | None) -> Any:
    """The pipeline; while it loads, that is said."""
    with Console(stderr=True).status("loading the model"):
        return probe.load(model)


def split(text: str | None) -> list[str]:
    """The words of an option with commas; none where it was left out."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def inquired(names: Sequence[str], concepts: Sequence[str] = (), patch: str | None = None) -> dict[str, Any]:
    """What `probe.record` is asked for, so that these explainers and tables can read it. Raises BadInput."""
    if "patching" in names and not patch:
        raise BadInput("patching needs another prompt to compare with; give one: --patch 'a blue cat'")
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
        raise BadInput("--at says when explainers take their passes, and none is asked that takes any: add --explain")
    steps = tuple(_numbers("--at", text, "steps with commas, such as 0,10"))
    return [each.model_copy(update={"steps": steps}) for each in inquiries]


def depths(options: Namespace) -> list[int] | None:
    """The depths of a lens; None are all. Raises BadInput."""
    if options.lens is None or options.lens == "all":
        return None
    if options.image:
        raise BadInput("a lens draws the prompt anew, so it goes with no existing picture: leave out --image or --lens")
    return _numbers("--lens", options.lens, "numbers of layers with commas, such as 0,2,4, or all")


def _numbers(option: str, text: str, wanted: str) -> list[int]:
    try:
        return [int(part) for part in split(text)]
    except ValueError as error:
        raise BadInput(f"{option} {text!r}: give {wanted}") from error


def _lens(trace: "probe.Trace", pipe: Any, options: Namespace) -> "probe.Trace":
    """The trace with the pictures of an encoder that ends early."""
    call = {name: value for name, value in _arguments(pipe, options).items() if name not in ("prompt", "generator")}
    with Console(stderr=True).status("drawing with fewer layers of the text encoder"):
        return probe.with_lens(trace, probe.lens(pipe, options.prompt, depths(options), seed=options.seed, **call))


def generate(pipe: Any, options: Namespace, *, label: str = "step", **asked: Any) -> "probe.Trace":
    """Run the pipeline's own loop under a recording (`asked`: its options), with a progress bar."""
    arguments = _arguments(pipe, options)
    pipe.set_progress_bar_config(disable=True)
    with _heeding(options.cut), Progress(*BAR, console=Console(stderr=True)) as progress:
        if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:
            arguments["callback_on_step_end"] = _ticker(progress, label)
        with probe.record(pipe, **asked) as recording:
            pipe(**arguments)
    return recording.trace


def look(pipe: Any, options: Namespace, **asked: Any) -> "probe.Trace":
    """The trace of a picture that exists already, at its own size; `asked` are options of the recording."""
    if options.width or options.height:
        raise BadInput("an existing picture has its own size: leave out --width and --height, or resize it first")
    picture = _read(options.image)
    with _heeding(options.cut), Console(stderr=True).status("looking"):
        return probe.record_image(
            pipe,
            picture,
            options.prompt,
            method="invert" if options.invert else "noise",
            steps=options.steps,
            seed=options.seed,
            guidance_scale=options.guidance,
            call={"negative_prompt": options.negative} if options.negative else None,
            **asked,
        )


def _read(path: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as problem:
        raise BadInput(f"{path} cannot be read as a picture ({problem}): give a PNG or JPEG file") from problem


@contextmanager
def _heeding(cut: bool) -> Generator[None]:
    """Print what `probe` warns of; refuse a prompt whose end falls off, unless `cut` allows it."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", ProbeWarning)
        if not cut:
            warnings.filterwarnings("error", FELL_OFF, ProbeWarning)
        try:
            yield
        except ProbeWarning as lost:
            raise BadPrompt(
                f"the prompt is too long: {lost}. Shorten it, or go on without these words: --cut"
            ) from lost
    for note in noted:
        if issubclass(note.category, ProbeWarning):
            say.aside(f"note: {note.message}")


def _ticker(progress: Progress, label: str) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    task = progress.add_task(label, total=None)

    def tick(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress.update(task, total=pipe.num_timesteps, completed=step + 1)
        return tensors

    return tick


def _arguments(pipe: Any, options: Namespace) -> dict[str, Any]:
    """What the pipeline is called with: only what was given, and only what this pipeline understands."""
    from torch import Generator

    from probe.generator.weights import GUIDANCE

    asked = {
        "prompt": options.prompt,
        "negative_prompt": options.negative,
        "num_inference_steps": options.steps,
        "guidance_scale": GUIDANCE if options.guidance is None and options.model is None else options.guidance,
        "width": options.width,
        "height": options.height,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    known = inspect.signature(type(pipe).__call__).parameters
    unknown = [name for name in given if name not in known]
    if unknown:
        raise BadInput(f"{type(pipe).__name__} takes no {', '.join(unknown)}. Leave it out for this model")
    _check_size(pipe, given)
    return given | {"generator": Generator("cpu").manual_seed(options.seed)}


def _check_size(pipe: Any, given: dict[str, Any]) -> None:
    multiple = max(8, getattr(pipe, "vae_scale_factor", 8))
    for name in ("width", "height"):
        size = given.get(name, multiple)
        if size % multiple:
            near = max(size // multiple, 1) * multiple
            raise BadInput(f"{name} {size} is no multiple of {multiple}. Take {near} or {near + multiple}")


def _write(trace: "probe.Trace", work: Path, options: Namespace) -> list[str]:
    """Everything of one result into `work`; returns the names of the figures."""
    trace.pictures[0].save(work / "picture.png")
    trace.save(work / "trace")
    explained = [heatmap for word in _subjects(trace)[:COMPARED] for heatmap in held(trace, word).values()]
    wanted = {*split(options.explain), *(["patching"] if options.patch else [])}
    found = [(table(name).title, each) for name, each in tables(trace).items() if name in wanted]
    probe.show.report(trace, work / "report.html", story=probe.show.Story(explained=explained, tables=found))
    (work / output.MARK).write_text(settings(options), encoding="utf-8")
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
    return save(figures, folder)


def _animations(trace: "probe.Trace", folder: Path) -> list[str]:
    """A GIF over the steps for each subject, of a film one over its pictures too; returns their names."""
    kinds = {"steps": probe.show.animation} | ({"film": probe.show.film} if frames(trace) > 1 else {})
    named = [(rank, word, kind) for rank, word in enumerate(_subjects(trace)[:STRIPS], start=1) for kind in kinds]
    paths = [folder / f"{kind}-{rank}-{output.slug(word)}.gif" for rank, word, kind in named]
    return [kinds[kind](trace, word).save(path).name for (_, word, kind), path in zip(named, paths, strict=True)]


def save(figures: Mapping[str, Any], folder: Path) -> list[str]:
    """Each figure as PNG and SVG; returns their names."""
    for name, figure in figures.items():
        output.draw(figure, folder / name)
    return list(figures)


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
