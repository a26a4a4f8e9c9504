"""Saved concepts beside the traces, and what the worker does with one: turn its words, prune a picture, steer by it."""

from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import pandas as pd

import probe
from dashboards.shared import charts, traces
from dashboards.shared.generation import Request, Shelf, check
from dashboards.shared.kept import Kept
from dashboards.shared.worker import Job
from probe.concepts.concept import CONCEPT, DECOMPOSITION, TARGET, Concept
from probe.concepts.recipe import Recipe, recipe_of
from probe.concepts.storage import NAME
from probe.generator.names import own_guidance

MENAGERIE = "menagerie"
TURNED, STEERED = "turned", "steered"  # pictures of a concept that was made here
BARS = 20


@dataclass(frozen=True)
class Redraw:
    """Draw a saved concept at a seed with some coefficients multiplied. Its words are (word, factor)."""

    name: str
    seed: int
    factors: tuple[tuple[str, float], ...] = ()

    def run(self, job: Job, shelf: Shelf) -> str:
        """Draw it in the worker's thread, and return the id of the turned concept."""
        concept, pipe, recipe = _ready(job, shelf, self.name)
        from probe.concepts.own import paint

        turned = concept
        for word, factor in self.factors:
            turned = turned.scaled(word, factor)
        pictures = {}
        for name, each in ((DECOMPOSITION, concept), (TURNED, turned)):
            job.enter(f"drawing the {name}" if name == DECOMPOSITION else "drawing with turned words")
            with each.spoken(pipe) as prompt:
                pictures[name] = tuple(paint(pipe, prompt, [self.seed], recipe))
        return save(replace(turned, pictures=pictures, provenance={**turned.provenance, "seed": self.seed}))


@dataclass(frozen=True)
class Prune:
    """Find which of a concept's words the picture at a seed needs."""

    name: str
    seed: int

    def run(self, job: Job, shelf: Shelf) -> str:
        """Prune in the worker's thread, and return the id of the concept that is left."""
        concept, pipe, recipe = _ready(job, shelf, self.name)
        from probe.concepts.eyes import open_eyes
        from probe.concepts.single import prune

        job.enter("taking words out")
        return save(prune(pipe, concept, open_eyes(), seed=self.seed, recipe=recipe).kept)


@dataclass(frozen=True)
class Along:
    """Draw another prompt at a seed, plain and steered along a saved concept, away from its template with "a thing"."""

    name: str
    seed: int
    prompt: str
    strength: float

    def run(self, job: Job, shelf: Shelf) -> str:
        """Draw both in the worker's thread, and return the id of the concept with these pictures."""
        concept, pipe, recipe = _ready(job, shelf, self.name)
        from probe.concepts.own import paint

        away = concept.template.format("a thing")
        steer = probe.Steer(towards=concept, away=away, strength=self.strength)
        pictures = {}
        for name, items in ((TARGET, []), (STEERED, [steer])):
            job.enter("drawing" if name == TARGET else "drawing along the concept")
            with probe.record(pipe, words=[], interventions=items):
                pictures[name] = tuple(paint(pipe, self.prompt, [self.seed], recipe))
        told = {"seed": self.seed, "steered": {"prompt": self.prompt, "away": away, "strength": self.strength}}
        return save(replace(concept, pictures=pictures, provenance={**concept.provenance, **told}))


def lead(concept: Concept) -> str:
    """The kind of the pictures that stand for it."""
    kinds = (STEERED, TURNED, DECOMPOSITION, CONCEPT)
    return next((kind for kind in kinds if concept.pictures.get(kind)), CONCEPT)


def subject(concept: Concept, kind: str) -> str:
    """What pictures of a kind show: the concept, or the prompt that was drawn plain and steered along it."""
    prompt = concept.provenance.get("steered", {}).get("prompt")
    if prompt is None or kind not in (TARGET, STEERED):
        return concept.prompt
    return f"{prompt}, steered along {concept.prompt}" if kind == STEERED else str(prompt)


def _ready(job: Job, shelf: Shelf, name: str) -> tuple[Concept, Any, Recipe]:
    """The concept, its model and how it is drawn. A model is loaded only from this machine."""
    job.enter("loading the model")
    concept = opened(name)
    source = concept.provenance.get("model", MENAGERIE)
    own = None if source == MENAGERIE else str(source)
    recipe = recipe_of(concept.settings)
    check(Request(concept.prompt, source=own))
    guidance = own_guidance(own) if recipe.guidance is None else recipe.guidance
    return concept, shelf.get(own), recipe.model_copy(update={"guidance": guidance})


def save(concept: Concept) -> str:
    """Save a concept beside the traces under a new id. Raises OutputError."""
    name = traces.new_id(concept.prompt)
    concept.save(traces.root() / name)
    return name


_SAVED = Kept("concept", NAME, Concept.open, CONCEPT)
names, place, opened, try_open = _SAVED.names, _SAVED.place, _SAVED.opened, _SAVED.try_open


def bars(concept: Concept) -> pd.DataFrame:
    """One row a word, largest first: its coefficient, and its share of all."""
    shares = concept.shares
    rows = [(word, concept[word], shares[word]) for word in concept.top(BARS)]
    return pd.DataFrame(rows, columns=["word", "coefficient", "share"])


def bar_chart(frame: pd.DataFrame) -> alt.LayerChart:
    """Coefficients as bars, with their numbers."""
    order = frame["word"].tolist()
    base = alt.Chart(frame).encode(
        y=alt.Y("word:N", sort=order, title=None, axis=alt.Axis(labelLimit=160, labelOverlap=False)),
        x=alt.X("coefficient:Q", title="coefficient"),
        tooltip=["word:N", alt.Tooltip("coefficient:Q", format=".4~g"), alt.Tooltip("share:Q", format=".1%")],
    )
    numbers = base.mark_text(align="left", dx=4, color=charts.ink()).encode(
        text=alt.Text("coefficient:Q", format=".2~g")
    )
    return alt.LayerChart(layer=[base.mark_bar(color=charts.series()[0]), numbers])


def height(frame: pd.DataFrame) -> int:
    """Pixels of the bars: as many as leave each word its name."""
    return 90 + 22 * len(frame)
