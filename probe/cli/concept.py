"""`probe concept`: which words, mixed, a model draws as it draws a concept."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import Progress

import probe
from probe.cli import output, say
from probe.cli.parser import concept_options, settings
from probe.cli.trace import BAR, check_prompt, load, split
from probe.store.folder import new_folder

if TYPE_CHECKING:
    from probe.concepts.recipe import Recipe

TOLD = 10  # words on the screen


def run(options: Namespace) -> int:
    """Everything is checked that can be before the model is loaded; nothing is visible before everything is there."""
    check_prompt(options.prompt, "concept")
    target = output.choose(options.out, options.prompt)
    if not options.overwrite:
        output.refuse(target)
    recipe = _recipe(options)
    with new_folder(target, replaces=output.replaceable) as work:
        pipe = load(options.model)
        concept = _decompose(pipe, options, recipe)
        concept.save(work / "concept")
        concept.report(work / "report.html")
        for name in ("concept", "decomposition"):
            for i, picture in enumerate(concept.pictures.get(name, ())):
                picture.save(work / f"{name}-{i}.png")
        (work / output.MARK).write_text(settings(options, concept_options), encoding="utf-8")
    _announce(concept, target)
    return 0


def _decompose(pipe: Any, options: Namespace, recipe: "Recipe") -> "probe.Concept":
    more: dict[str, Any] = {"solver": options.solver, "recipe": recipe, "checkpoint": options.checkpoint}
    if options.model is None:
        from probe.concepts.eyes import Eyes
        from probe.generator import weights

        more["eyes"] = Eyes(weights.clip(), pipe.tokenizer)
    with Progress(*BAR, console=Console(stderr=True)) as progress:
        return probe.decompose(pipe, options.prompt, progress=_ticker(progress), **more)


def _ticker(progress: Progress) -> Callable[[int, int, float], None]:
    """A bar for the pictures, then one for the steps."""
    tasks = {"pictures": progress.add_task("pictures", total=None)}

    def tick(done: int, total: int, loss: float) -> None:
        if loss == loss and "steps" not in tasks:  # NaN while pictures are drawn
            tasks["steps"] = progress.add_task("steps", total=total)
        progress.update(tasks.get("steps", tasks["pictures"]), total=total, completed=done)

    return tick


def _recipe(options: Namespace) -> "Recipe":
    """The solver's own recipe, with what was given in its place."""
    from probe.concepts.decompose import way
    from probe.generator.weights import GUIDANCE

    words, without = split(options.words), split(options.without)
    given = {
        "seed": options.seed,
        "steps": options.steps,
        "pictures": options.pictures,
        "inference_steps": options.inference_steps,
        "height": options.height,
        "width": options.width,
        "guidance": GUIDANCE if options.guidance is None and options.model is None else options.guidance,
        "words": tuple(words) if words else None,
        "without": tuple(without) if without else None,
    }
    return way(options.solver).recipe.model_copy(update={name: v for name, v in given.items() if v is not None})


def _announce(concept: "probe.Concept", target: Path) -> None:
    shares = concept.shares
    say.result(f"{concept.prompt!r}, in {concept.provenance['vocabulary']} words by {concept.settings['solver']}:")
    for word in concept.top(TOLD):
        say.result(f"  {word:<20}{concept[word]:>9.4f}  {shares[word]:>6.1%}")
    say.result(f"  {target / 'report.html'}  the report; open it in a browser")
    say.result(f"  {target / 'concept'}  the concept; open it with probe.Concept.open, or in the dashboard")
