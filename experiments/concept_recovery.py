"""Does a decomposition find what a concept is made of? In Menagerie that is known: who asks for "an animal" gets one of
twelve, and a doctor is a man in 70 of 100 pictures.

For each concept and solver: seconds, precision@k (the share of the k largest words that the concept is made of; every
other content word of the world is a distractor), the share of gender words that man words hold, how alike pictures of
concept and decomposition are, and with `--again 2` how many of the ten largest words come out at other seeds too.
Results are kept as they come, one folder each, so the run goes on where it was stopped. `--small` takes few pictures
and steps, `--write` puts the table into docs/concepts.md. Run it from the root of the repository.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

import probe
from probe.concepts.baselines import BASELINES
from probe.concepts.decompose import SOLVERS
from probe.concepts.eyes import Eyes
from probe.concepts.measures import Faithfulness, diversity, faithfulness, stability
from probe.concepts.own import paint
from probe.concepts.recipe import Recipe
from probe.generator import weights
from probe.generator.card import insert
from probe.generator.world import vocabulary as v

PAGE, SEEDS = Path("docs/concepts.md"), 10_000
APART = 1000  # seeds of learning: no two learn from the same picture
SMALL = (
    "A rehearsal (`--small`): at most 4 pictures of 6 steps and 4 steps of learning for every solver, 4 pictures to "
    "compare, so no likeness and no ranking should be read from it. Seconds are of a shared core."
)
MAN = ("man", "guy", "male")
WOMAN = ("woman", "lady", "female")


@dataclass(frozen=True)
class Question:
    """A concept, the words that it is made of, and words that are left out as they only say it again."""

    prompt: str
    parts: frozenset[str]
    without: tuple[str, ...]
    k: int


def content() -> tuple[str, ...]:
    """The words of the world that name something: kinds, genders, colours, tones. "plain" is in no caption."""
    tables = (v.SYNONYMS, v.HYPERNYMS, v.GENDER_NOUNS, v.GENDER_ADJECTIVES, v.COLOUR_SYNONYMS, v.PLACE_ADJECTIVES)
    words = [
        *v.KINDS,
        *v.COLOURS,
        *v.PLACES,
        *v.TONE_WORDS.values(),
        *(w for t in tables for ws in t.values() for w in ws),
    ]
    return tuple(sorted(set(words) - {"plain"}))


def named(kinds: Sequence[str]) -> frozenset[str]:
    """The kinds and their synonyms."""
    return frozenset(kinds) | {word for kind in kinds for word in v.SYNONYMS[kind]}


def person(profession: str) -> Question:
    """A profession is made of its genders and tones; its synonyms say it again."""
    parts = frozenset((*MAN, *WOMAN, *v.TONE_WORDS.values(), "skin", *v.HYPERNYMS[profession]))
    return Question(f"a {profession}", parts, v.SYNONYMS[profession], 5)


QUESTIONS = (
    Question("an animal", named(v.ANIMALS), v.HYPERNYMS["cat"], 10),
    Question("an object", named(v.OBJECTS), v.HYPERNYMS["car"], 10),
    Question("a person", named(v.PROFESSIONS) | {*MAN, *WOMAN}, v.HYPERNYMS["doctor"], 10),
    person("doctor"),
    person("teacher"),
    person("pilot"),
)


def recipe(name: str, question: Question, small: bool) -> Recipe:
    """A solver's own recipe on the words of the world, at the settings that Menagerie's card is measured at."""
    base = (SOLVERS | BASELINES)[name].recipe
    own = {"words": content(), "without": question.without, "guidance": weights.GUIDANCE, "show": 0}
    few = {"pictures": min(base.pictures, 4), "steps": min(base.steps, 4)} if small else {}
    return base.model_copy(update={**own, **few, "inference_steps": 6 if small else 20})


def solved(pipe: Any, name: str, question: Question, folder: Path, asked: Recipe) -> probe.Concept:
    """The concept by a solver or a baseline; opened if it was solved before."""
    place = folder / f"{name}-{question.prompt.replace(' ', '-')}{f'-{asked.seed}' if asked.seed else ''}"
    if place.is_dir():
        return probe.Concept.open(place)
    began = time.monotonic()
    more: Any = {"checkpoint": place.with_suffix(".part"), "progress": told(name)}
    found = probe.decompose(pipe, question.prompt, solver=name, recipe=asked, **more)
    Console(stderr=True).print(f"{name}, {question.prompt}: {time.monotonic() - began:.0f} s")
    found.save(place)
    shutil.rmtree(more["checkpoint"], ignore_errors=True)
    return found


def seeded(name: str, question: Question, given: argparse.Namespace) -> list[Recipe]:
    """The recipe at each seed: other pictures to learn from, other noise, another start."""
    base = recipe(name, question, given.small)
    return [base.model_copy(update={"seed": APART * i}) for i in range(1 + given.again)]


def told(name: str) -> Any:
    """Says how far a solver is, now and then."""

    def tick(done: int, total: int, loss: float) -> None:
        if loss == loss and (done == total or done % 50 == 0):  # NaN while pictures are drawn
            Console(stderr=True).print(f"  {name}: {done} of {total}, loss {loss:.4f}")

    return tick


def precision(concept: probe.Concept, question: Question) -> float:
    """Of the k largest words, the share that the concept is made of."""
    return sum(word in question.parts for word in concept.top(question.k)) / question.k


def men(concept: probe.Concept) -> float | None:
    """What man words hold of what words of gender hold; None if there are none."""
    held = [sum(abs(concept[word]) for word in words if word in concept.words) for words in (MAN, WOMAN)]
    return held[0] / sum(held) if sum(held) else None


@dataclass(frozen=True)
class Gallery:
    """Pictures of a concept, at seeds that no solver saw, and eyes to compare them with those of a decomposition."""

    pipe: Any
    eyes: Eyes
    asked: Recipe
    pictures: list[Image.Image]

    @property
    def seeds(self) -> range:
        """The seeds, one a picture."""
        return range(SEEDS, SEEDS + len(self.pictures))

    def likeness(self, concept: probe.Concept) -> Faithfulness:
        """How alike the decomposition's pictures are, at equal seeds."""
        with concept.spoken(self.pipe) as prompt:
            return faithfulness(self.eyes, self.pictures, paint(self.pipe, prompt, self.seeds, self.asked))


def gallery(pipe: Any, eyes: Eyes, question: Question, count: int, small: bool) -> Gallery:
    """Draw the concept."""
    asked = recipe("closed", question, small)
    pictures = paint(pipe, asked.template.format(question.prompt), range(SEEDS, SEEDS + count), asked)
    return Gallery(pipe, eyes, asked, pictures)


def row(held: Gallery, found: Sequence[probe.Concept], question: Question) -> list[str]:
    """One line of the table: of the first seed, and how alike the words of all seeds are."""
    concept = found[0]
    like, share = held.likeness(concept), men(concept)
    planted = v.MAN_SHARE.get(question.prompt.split()[-1])
    gender = "" if planted is None else f"{'-' if share is None else f'{share:.2f}'} ({planted:.2f})"
    numbers = (f"{concept.provenance['seconds']:.0f}", f"{precision(concept, question):.2f}", gender)
    measured = (f"{like.cosine:.3f}", f"{like.kid:.3f}", f"{diversity(held.eyes, concept):.2f}")
    stable = f"{stability(found):.2f}" if len(found) > 1 else "-"
    return [question.prompt, str(concept.settings["solver"]), *numbers, *measured, stable, ", ".join(concept.top(5))]


HEAD = ("concept", "solver", "s", "P@k", "man share (planted)", "CLIP", "KID", "diversity", "stable", "largest words")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/concept_recovery"))
    parser.add_argument("--solvers", nargs="+", default=[*SOLVERS, *BASELINES], choices=[*SOLVERS, *BASELINES])
    parser.add_argument("--concepts", nargs="+", default=[q.prompt for q in QUESTIONS])
    parser.add_argument("--pictures", type=int, default=32, help="pictures that faithfulness is measured on")
    parser.add_argument("--again", type=int, default=0, help="further seeds to learn at, for the column `stable`")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    pipe, count = probe.load(), 4 if given.small else given.pictures
    eyes, rows = Eyes(weights.clip(), pipe.tokenizer), []
    for question in (q for q in QUESTIONS if q.prompt in given.concepts):
        held = gallery(pipe, eyes, question, count, given.small)
        for name in given.solvers:
            place = given.out / ("small" if given.small else "full")
            found = [solved(pipe, name, question, place, asked) for asked in seeded(name, question, given)]
            rows.append(row(held, found, question))
            print(" | ".join(rows[-1]), flush=True)
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if given.write:
        scale = SMALL if given.small else f"Every solver by its own recipe; pictures compared: {count}."
        table = f"{scale}\n\n{table}"
        PAGE.write_text(insert(PAGE.read_text("utf-8"), table), "utf-8")


if __name__ == "__main__":
    main()
