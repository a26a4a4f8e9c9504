"""Decompose: which words, mixed, a model draws as it draws a concept."""

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from probe.attach.assemble import versions
from probe.attach.model.families import denoiser, family
from probe.attach.model.name import model_of
from probe.concepts import checkpoint as saved
from probe.concepts.baselines import BASELINES
from probe.concepts.concept import CONCEPT, DECOMPOSITION, Concept
from probe.concepts.conceptor import Conceptor
from probe.concepts.eyes import Eyes
from probe.concepts.measures import measured
from probe.concepts.own import Own, Tick, own_pictures, paint
from probe.concepts.pseudo_token import Encoder, check_expressible, encoders, gap
from probe.concepts.recipe import Recipe
from probe.concepts.reconstruction import Bench, borrowed
from probe.concepts.solver import Solver, Way
from probe.concepts.sparse import Closed, Mixture, Sparse
from probe.concepts.vocabulary import Vocabulary, limited, nearest, own_vectors, vocabulary
from probe.errors import BadInput, ProbeWarning
from probe.words import segment

SOLVERS: dict[str, Way] = {
    "conceptor": Way(Conceptor, Recipe(), "a network over the embeddings, as published"),
    "sparse": Way(Sparse, Recipe(pictures=12, steps=15), "the coefficients themselves, by projected gradient"),
    "closed": Way(Closed, Recipe(pictures=24, steps=16), "how much each word lowers the loss, to first order"),
    "mixture": Way(Mixture, Recipe(pictures=6, steps=6), "non-negative least squares on the words' own answers"),
}
VALIDATION = 1_000_000  # seeds of pictures that no solver has seen


def decompose(
    pipe: Any,
    prompt: str,
    *,
    solver: str = "conceptor",
    recipe: Recipe | None = None,
    eyes: Eyes | None = None,
    checkpoint: str | Path | None = None,
    progress: Tick | None = None,
) -> Concept:
    """The words that a model's pictures of a prompt are made of: w* = sum alpha_i w_i, the alphas 0 or more.

    `pipe`: any diffusers pipeline with text encoders; with several, a word has one coefficient and counts in each of
    them. `solver`: a name of `SOLVERS` or `BASELINES`, each with its own recipe. `eyes`: a CLIP that chooses the words
    of a large vocabulary by the concept's pictures, and the best of Conceptor's coefficients by pictures of the
    decomposition; without one, words are chosen by their embeddings and the last coefficients are kept. `checkpoint`:
    a folder from which an interrupted run goes on. `progress(done, total, loss)` is called as it goes. Weights stay as
    they are.
    Raises BadInput, BadPrompt (a concept that the tokenizer cannot express), NoMatch (no word left), UnknownFamily.
    """
    chosen, heard = way(solver), encoders(pipe)
    recipe = recipe or chosen.recipe
    text = check_expressible(prompt, heard)
    _warn_of_pieces(text, heard)
    asked = {"prompt": text, "solver": solver, "recipe": recipe.model_dump(), "model": model_of(pipe)}
    tick = progress or (lambda done, total, loss: None)
    place = None if checkpoint is None else Path(checkpoint)
    with borrowed(pipe, heard):
        job = _Job(pipe, heard, text, recipe, eyes)
        at = place and saved.read(place, asked, denoiser(pipe)[1].device)
        began = time.monotonic() - (at.seconds if at else 0.0)
        at = at or saved.Progress(asked, *job.prepare(tick))
        hand = chosen.make(job.bench(at), recipe)
        if at.done:
            hand.restore(at.state)
        for i in range(at.done, recipe.steps):
            at.losses.append(hand.step(i))
            at.done = i + 1
            if at.done % recipe.save_every == 0 or at.done == recipe.steps:
                at.best = job.better(at, hand)
                at.seconds = time.monotonic() - began
                if place is not None:
                    saved.write(replace(at, state=hand.state()), place)
            tick(at.done, recipe.steps, at.losses[-1])
        concept = job.concept(at, at.best[1] if at.best else hand.coefficients())
    drawn = replace(concept, pictures=dict(_shown(pipe, concept, recipe)))
    return drawn if eyes is None else measured(drawn, eyes)


def way(name: str) -> Way:
    """The solver or baseline of this name. Raises BadInput, listing them."""
    known = SOLVERS | BASELINES
    if name not in known:
        raise BadInput(f"there is no solver {name!r}; there are: {', '.join(known)}")
    return known[name]


def _warn_of_pieces(prompt: str, heard: tuple[Encoder, ...]) -> None:
    for word in (prompt[slice(*span)] for span in segment(prompt)):
        pieces = len(heard[0].ids(word))
        if pieces > max(2, len(word) // 2):
            warnings.warn(
                f"{word!r} is spelt in {pieces} pieces: the model may not know it", ProbeWarning, stacklevel=3
            )


@dataclass(frozen=True)
class _Job:
    """One decomposition: what does not change while the solver works."""

    pipe: Any
    heard: tuple[Encoder, ...]
    prompt: str
    recipe: Recipe
    eyes: Eyes | None

    @property
    def spoken(self) -> str:
        """The concept's own prompt."""
        return self.recipe.template.format(self.prompt)

    def prepare(self, tick: Tick) -> tuple[tuple[str, ...], Own]:
        """The vocabulary, and the model's own pictures. What can fail without drawing fails first."""
        gap(self.prompt, self.recipe.template, self.heard)
        held = vocabulary(self.heard, self.prompt, self.recipe)
        own, pictures = own_pictures(self.pipe, self.spoken, self.recipe, tick)
        if len(held.words) > self.recipe.limit:
            held = limited(held, self._closeness(held, pictures), self.recipe.limit)
        return held.words, own

    def _closeness(self, held: Vocabulary, pictures: list[Image.Image]) -> np.ndarray:
        """[word]: how close each word is to the pictures, or without eyes to the concept's own embedding."""
        if self.eyes is None:
            return nearest(held, own_vectors(self.heard, self.prompt))
        return self.eyes.texts(held.words) @ self.eyes.pictures(pictures).mean(0)

    def bench(self, at: saved.Progress) -> Bench:
        """What the solver works on."""
        hole = gap(self.prompt, self.recipe.template, self.heard)
        words = vocabulary(self.heard, self.prompt, self.recipe.model_copy(update={"words": at.words}))
        words = words.narrowed([words.words.index(word) for word in at.words])
        origin = own_vectors(self.heard, self.prompt)
        return Bench(self.pipe, hole, self.spoken, self.heard, words, origin, at.own, self.recipe)

    def better(self, at: saved.Progress, hand: Solver) -> tuple[float, Tensor] | None:
        """The coefficients with the best validation so far; None without eyes, or for a solver that is sure."""
        if self.eyes is None or not isinstance(hand, Conceptor):
            return None
        coefficients = hand.coefficients()
        likeness = self._likeness(self.concept(at, coefficients))
        return max((at.best, (likeness, coefficients)), key=lambda each: -1.0 if each is None else each[0])

    def _likeness(self, concept: Concept) -> float:
        assert self.eyes is not None
        seeds = range(VALIDATION, VALIDATION + max(1, self.recipe.show))
        with concept.spoken(self.pipe) as prompt:
            made = self.eyes.pictures(paint(self.pipe, prompt, seeds, self.recipe))
        return float((made * self.eyes.pictures(paint(self.pipe, self.spoken, seeds, self.recipe))).sum(1).mean())

    def concept(self, at: saved.Progress, coefficients: Tensor) -> Concept:
        """The N largest coefficients as a Concept."""
        values = coefficients.double().numpy()
        order = [i for i in np.argsort(-values, kind="stable")[: self.recipe.top] if values[i] > 0]
        if not order:
            raise BadInput(
                f"no word has a coefficient above 0 for {self.prompt!r} after {at.done} steps: take more steps, "
                "Recipe(absolute=True), or another solver"
            )
        held = vocabulary(self.heard, self.prompt, self.recipe.model_copy(update={"words": at.words}))
        return Concept(
            self.prompt,
            tuple(at.words[i] for i in order),
            tuple(float(values[i]) for i in order),
            held.norms,
            template=self.recipe.template,
            losses=np.asarray(at.losses, np.float32),
            settings={"solver": at.asked["solver"], **self.recipe.model_dump()},
            provenance=self._provenance(at),
        )

    def _provenance(self, at: saved.Progress) -> Mapping[str, Any]:
        return {
            "model": at.asked["model"],
            "family": family(self.pipe).name,
            "pipeline": type(self.pipe).__name__,
            "encoders": [each.name for each in self.heard],
            "vocabulary": len(at.words),
            "seconds": round(at.seconds, 3),
            "likeness": at.best[0] if at.best else None,
            "device": str(denoiser(self.pipe)[1].device),
            "versions": versions(),
        }


def _shown(pipe: Any, concept: Concept, recipe: Recipe) -> Iterator[tuple[str, tuple[Image.Image, ...]]]:
    """Pictures of the concept and of its decomposition at equal seeds, and of the largest words."""
    seeds = range(VALIDATION, VALIDATION + recipe.show)
    if not seeds:
        return
    yield CONCEPT, tuple(paint(pipe, recipe.template.format(concept.prompt), seeds, recipe))
    with concept.spoken(pipe) as prompt:
        yield DECOMPOSITION, tuple(paint(pipe, prompt, seeds, recipe))
    for word in concept.top(recipe.show_words):
        yield f"a {word}", tuple(paint(pipe, recipe.template.format(f"a {word}"), seeds[:1], recipe))
