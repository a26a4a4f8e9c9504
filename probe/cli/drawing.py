"""Draws as a command's options say: loads the model and runs its own loop under a recording."""

import inspect
import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from jsonargparse import Namespace
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import probe
from probe.cli import say
from probe.errors import BadInput, BadPrompt, ProbeWarning
from probe.generator.names import own_guidance
from probe.study.scheduler import scheduled

TRUNCATED = r"the end of .* was truncated"
SCHEDULER = re.compile(r"pipe\.scheduler = diffusers\.(?P<name>\w+)")
BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def check_prompt(prompt: str, command: str) -> None:
    """Raises BadPrompt for an empty prompt."""
    if not prompt.strip():
        raise BadPrompt(
            f"the prompt is empty. Say what to draw, for example: probe {command} 'a cat and a red balloon'"
        )


def check_steps(pipe: Any, steps: int | None) -> None:
    """Raises BadInput for as many steps as the model knows levels of noise, or more."""
    levels = pipe.scheduler.config.get("num_train_timesteps")
    if steps is not None and isinstance(levels, int) and steps >= levels:
        raise BadInput(f"--steps {steps}: this model knows {levels} levels of noise; take fewer steps, such as 50")


def load(options: Namespace) -> Any:
    """The pipeline of --model on --device, with --scheduler; while it loads, that is said. Raises BadInput."""
    with Console(stderr=True).status("loading the model"):
        pipe = probe.load(options.model, device=options.device)
    check_steps(pipe, options.get("steps"))
    try:
        return scheduled(pipe, options.scheduler)
    except ImportError as error:
        why = " ".join(str(error).split())
        raise BadInput(f"--scheduler {options.scheduler}: {why}; or take another, such as DDIMScheduler") from error


def generate(pipe: Any, options: Namespace, *, label: str = "step", **asked: Any) -> "probe.Trace":
    """Run the pipeline's own loop under a recording (`asked`: its options), with a progress bar."""
    return recorded(pipe, options, label, **asked).trace


def recorded(pipe: Any, options: Namespace, label: str = "step", **asked: Any) -> "probe.Recording":
    """The same, as the recording itself."""
    arguments = arguments_of(pipe, options)
    pipe.set_progress_bar_config(disable=True)
    quiet = bool(asked.get("dry_run"))
    with _heed_warnings(options.cut), Progress(*BAR, console=Console(stderr=True), disable=quiet) as progress:
        if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:
            arguments["callback_on_step_end"] = _ticker(progress, label)
        with probe.record(pipe, **asked) as recording:
            pipe(**arguments)
    return recording


def look(pipe: Any, options: Namespace, **asked: Any) -> "probe.Trace":
    """The trace of a picture that exists already, at its own size; `asked` are options of the recording."""
    if options.width or options.height:
        raise BadInput("an existing image has its own size: leave out --width and --height, or resize it first")
    picture = _read(options.image)
    with _heed_warnings(options.cut), Console(stderr=True).status("looking"):
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
        raise BadInput(f"{path} cannot be read as an image ({problem}): give a PNG or JPEG file") from problem


@contextmanager
def _heed_warnings(cut: bool) -> Generator[None]:
    """Print what `probe` warns of; refuse a prompt that would be truncated, unless `cut` allows it."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", ProbeWarning)
        if not cut:
            warnings.filterwarnings("error", TRUNCATED, ProbeWarning)
        try:
            yield
        except ProbeWarning as lost:
            raise BadPrompt(
                f"the prompt is too long: {lost}. Shorten it, or go on without these words: --cut"
            ) from lost
    for note in noted:
        if issubclass(note.category, ProbeWarning):
            say.aside(f"note: {_here(str(note.message))}")


def _here(note: str) -> str:
    """A note, and where its remedy is Python that sets a scheduler, how to say that to a command."""
    found = SCHEDULER.search(note)
    return f"{note} (here: --scheduler {found['name']})" if found else note


def _ticker(progress: Progress, label: str) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    task = progress.add_task(label, total=None)

    def tick(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress.update(task, total=pipe.num_timesteps, completed=step + 1)
        return tensors

    return tick


def arguments_of(pipe: Any, options: Namespace) -> dict[str, Any]:
    """What the pipeline is called with: only what was given, and only what this pipeline understands."""
    from torch import Generator

    asked = {
        "prompt": options.prompt,
        "negative_prompt": options.negative,
        "num_inference_steps": options.steps,
        "guidance_scale": own_guidance(options.model) if options.guidance is None else options.guidance,
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
            raise BadInput(f"{name} {size} is not a multiple of {multiple}. Take {near} or {near + multiple}")
