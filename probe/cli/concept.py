"""`probe concept`: which words, mixed, a model draws as it draws a concept."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import Progress

import probe
from probe.cli import output, say
from probe.cli.drawing import BAR, check_prompt, load
from probe.cli.parser import concept_options
from probe.cli.values import seeds, split
from probe.concepts.concept import CONCEPT, DECOMPOSITION, TARGET
from probe.errors import BadInput
from probe.generator.names import own_guidance

if TYPE_CHECKING:
    from probe.concepts.eyes import Eyes
    from probe.concepts.recipe import Recipe
    from probe.concepts.single import Single

PICTURES = (CONCEPT, TARGET, DECOMPOSITION)
TOLD = 10  # words on the screen


def run(options: Namespace) -> int:
    """Everything is checked that can be before the model is loaded; nothing is visible before everything is there."""
    check_prompt(options.prompt, "concept")
    picked = seeds(options.prune, "--prune") if options.prune else ()
    _check_prune(options)
    known = _known(options)
    recipe = _recipe(options, known)
    target = output.target_of(options, options.prompt)
    with output.folder(target, options, concept_options) as work:
        eyes, pipe = _eyes(options), load(options)
        concept = known or _decompose(pipe, options, recipe, eyes)
        if known is None:
            _write(concept, work)
        singles = [_single(pipe, concept, eyes, seed, recipe) for seed in picked if eyes is not None]
        for single in singles:
            _write(single.kept, work / f"picture-{single.seed}")
    if known is None:
        _announce(concept, target)
    for single in singles:
        _tell(single, target)
    return 0


def _check_prune(options: Namespace) -> None:
    """Raise BadInput for pictures that nothing could compare, and for a known concept of which nothing is asked."""
    if options.prune and options.eyes is None and options.model is not None:
        raise BadInput(
            "--prune compares images, and Menagerie's CLIP knows only its own: give --eyes the folder of a CLIP model"
        )
    if options.concept is not None and not options.prune:
        raise BadInput("--concept names a concept that is decomposed already; add the seeds to prune: --prune 0-3")


def _known(options: Namespace) -> "probe.Concept | None":
    """The concept of an earlier run, if one is named. Raises BadInput where it is not that of the prompt."""
    if options.concept is None:
        return None
    found = probe.Concept.open(options.concept)
    if found.prompt != options.prompt.strip():
        raise BadInput(f"{options.concept} holds the concept {found.prompt!r}, not {options.prompt!r}; use that prompt")
    return found


def _eyes(options: Namespace) -> "Eyes | None":
    """The CLIP that was named, or Menagerie's for Menagerie."""
    if options.eyes is None and options.model is not None:
        return None
    from probe.concepts.eyes import open_eyes

    return open_eyes() if options.eyes is None else open_eyes(options.eyes)


def _decompose(pipe: Any, options: Namespace, recipe: "Recipe", eyes: "Eyes | None") -> "probe.Concept":
    more: dict[str, Any] = {"solver": options.solver, "recipe": recipe, "checkpoint": options.checkpoint}
    with Progress(*BAR, console=Console(stderr=True)) as progress:
        return probe.decompose(pipe, options.prompt, eyes=eyes, progress=_ticker(progress), **more)


def _single(pipe: Any, concept: "probe.Concept", eyes: "Eyes", seed: int, recipe: "Recipe") -> "Single":
    from probe.concepts.single import prune

    with Console(stderr=True).status(f"taking words out of the picture at seed {seed}"):
        return prune(pipe, concept, eyes, seed=seed, recipe=recipe)


def _write(concept: "probe.Concept", folder: Path) -> None:
    """The concept, its page, and its pictures one by one."""
    folder.mkdir(exist_ok=True)
    concept.save(folder / "concept")
    concept.report(folder / "report.html")
    for name in PICTURES:
        for i, picture in enumerate(concept.pictures.get(name, ())):
            picture.save(folder / f"{name}-{i}.png")


def _ticker(progress: Progress) -> Callable[[int, int, float], None]:
    """A bar for the pictures, then one for the steps."""
    tasks = {"pictures": progress.add_task("pictures", total=None)}

    def tick(done: int, total: int, loss: float) -> None:
        if loss == loss and "steps" not in tasks:  # NaN while pictures are drawn
            tasks["steps"] = progress.add_task("steps", total=total)
        progress.update(tasks.get("steps", tasks["pictures"]), total=total, completed=done)

    return tick


def _recipe(options: Namespace, known: "probe.Concept | None") -> "Recipe":
    """The solver's own recipe, or that of an earlier run, with what was given in its place."""
    from probe.concepts.decompose import way
    from probe.concepts.recipe import recipe_of

    words, without = split(options.words), split(options.without)
    given = {
        "seed": options.seed,
        "steps": options.learning_steps,
        "pictures": options.pictures,
        "inference_steps": options.steps,
        "height": options.height,
        "width": options.width,
        "guidance": own_guidance(options.model) if options.guidance is None else options.guidance,
        "words": tuple(words) if words else None,
        "without": tuple(without) if without else None,
    }
    base = way(options.solver).recipe if known is None else recipe_of(known.settings)
    return base.model_copy(update={name: v for name, v in given.items() if v is not None})


def _announce(concept: "probe.Concept", target: Path) -> None:
    shares = concept.shares
    say.result(f"{concept.prompt!r}, in {concept.provenance['vocabulary']} words by {concept.settings['solver']}:")
    for word in concept.top(TOLD):
        say.result(f"  {word:<20}{concept[word]:>9.4f}  {shares[word]:>6.1%}")
    say.result(f"  {target / 'report.html'}  the report; open it in a browser")
    say.result(f"  {target / 'concept'}  the concept; open it with probe.Concept.open, or in the dashboard")


def _tell(single: "Single", target: Path) -> None:
    """Which words a picture needs, and how alike the picture from them is."""
    concept, gone = single.concept, len(single.removed)
    say.result(f"seed {single.seed}: {len(concept.words)} words are enough, {gone} went; cosine {single.likeness:.3f}")
    for word in concept.top(TOLD):
        say.result(f"  {word:<20}{concept[word]:>9.4f}")
    say.result(f"  {target / f'picture-{single.seed}' / 'report.html'}  both pictures; open it in a browser")
