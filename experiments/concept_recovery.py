"""Does a decomposition find what a concept is made of? In Menagerie that is known: who asks for "an animal" gets one of
twelve, and a doctor is a man in 70 of 100 pictures.

For each concept and solver: seconds, precision@k (the share of the k largest words that the concept is made of; every
other content word of the world is a distractor), the share of gender words that man words hold, how alike pictures of
concept and decomposition are, and with `--again 2` how many of the ten largest words come out at other seeds too. One
solver after the other, each on every concept, the reference recipe last, seed by seed: what `--minutes 45` or an
interruption leaves is whole as far as it goes. Rows go to --out as they come, a file for the weights, and are not
measured again. `--write` puts the tables into docs/concepts.md and the rows into experiments/results, so that later
runs add to them (`--minutes 0 --write`: of the rows that there are). Run it from the root of the repository; to try it
out: `--small`, whose numbers mean nothing.
"""

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console

import probe
from experiments import kept
from experiments.concept_questions import MAN, QUESTIONS, WOMAN, Question, content
from probe.concepts.baselines import BASELINES
from probe.concepts.decompose import SOLVERS
from probe.concepts.eyes import Eyes
from probe.concepts.measures import Faithfulness, agreement, diversity, faithfulness
from probe.concepts.own import paint
from probe.concepts.recipe import Recipe
from probe.generator import weights
from probe.generator.card import insert
from probe.generator.names import GUIDANCE
from probe.generator.world import vocabulary as v

PAGE, SEEDS, REFERENCE = Path("docs/concepts.md"), 10_000, "conceptor"
NAME = "concept_recovery"
NAMES = ["concept", "solver", "seed", "pictures", "steps", "inference_steps", "compared"]  # of a row
WORDS = 10  # that are kept of a decomposition
MEASURED = ["seconds", "processor", "precision", "men", "cosine", "distance", "kid", "diversity", "words"]
COLUMNS = [*NAMES, *MEASURED]
APART = 1000  # seeds of learning: no two learn from the same picture


def recipe(name: str, question: Question, small: bool) -> Recipe:
    """A solver's own recipe on the words of the world, at the settings that Menagerie's card is measured at."""
    base = (SOLVERS | BASELINES)[name].recipe
    own = {"words": content(), "without": question.without, "guidance": GUIDANCE, "show": 0}
    few = {"pictures": min(base.pictures, 4), "steps": min(base.steps, 4)} if small else {}
    return base.model_copy(update={**own, **few, "inference_steps": 6 if small else 20})


def solved(pipe: Any, name: str, question: Question, folder: Path, asked: Recipe) -> tuple[probe.Concept, float]:
    """The concept by a solver or a baseline, and the processor's seconds, NaN where it went on from an earlier run.

    Opened if it was solved before.
    """
    place = folder / f"{name}-{question.prompt.replace(' ', '-')}{f'-{asked.seed}' if asked.seed else ''}"
    if place.is_dir():
        found = probe.Concept.open(place)
        return found, found.provenance.get("processor", float("nan"))
    part = place.with_suffix(".part")
    resumed, began = part.exists(), time.process_time()
    found = probe.decompose(
        pipe, question.prompt, solver=name, recipe=asked, checkpoint=part, progress=told(name, question.prompt)
    )
    processor = float("nan") if resumed else time.process_time() - began
    found = replace(found, provenance={**found.provenance, "processor": processor})
    found.save(place)
    shutil.rmtree(part, ignore_errors=True)
    return found, processor


def told(name: str, prompt: str) -> Any:
    """Says how far a solver is, now and then."""

    def tick(done: int, total: int, loss: float) -> None:
        if loss == loss and (done == total or done % 50 == 0):  # NaN while pictures are drawn
            Console(stderr=True).print(f"  {name}, {prompt}: {done} of {total}, loss {loss:.4f}")

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


def gallery(pipe: Any, eyes: Eyes, question: Question, given: argparse.Namespace) -> Gallery:
    """Draw the concept."""
    asked = recipe("closed", question, given.small)
    pictures = paint(pipe, asked.template.format(question.prompt), range(SEEDS, SEEDS + given.pictures), asked)
    return Gallery(pipe, eyes, asked, pictures)


@dataclass(frozen=True)
class Job:
    """A solver on a concept at a seed of learning."""

    question: Question
    solver: str
    recipe: Recipe

    def name(self, compared: int) -> dict[str, Any]:
        """The columns that name its row."""
        asked = {name: getattr(self.recipe, name) for name in ("seed", "pictures", "steps", "inference_steps")}
        return {"concept": self.question.prompt, "solver": self.solver, **asked, "compared": compared}


def jobs(given: argparse.Namespace) -> Iterator[Job]:
    """Seed by seed, solver by solver: other pictures to learn from, other noise, another start at each seed."""
    chosen = [question for question in QUESTIONS if question.prompt in given.concepts]
    for seed in range(1 + given.again):
        for name in sorted(given.solvers, key=lambda each: each == REFERENCE):
            for question in chosen:
                asked = recipe(name, question, given.small).model_copy(update={"seed": APART * seed})
                yield Job(question, name, asked)


def row(job: Job, held: Gallery, folder: Path) -> dict[str, Any]:
    """What is kept of a job."""
    concept, processor = solved(held.pipe, job.solver, job.question, folder, job.recipe)
    found = {**asdict(held.likeness(concept)), "diversity": diversity(held.eyes, concept)}
    said = {"precision": precision(concept, job.question), "men": men(concept), "words": " ".join(concept.top(WORDS))}
    spent = {"seconds": concept.provenance["seconds"], "processor": round(processor, 2)}
    rounded = {name: round(found[name], 4) for name in ("cosine", "distance", "kid", "diversity")}
    return {**job.name(len(held.pictures)), **spent, **said, **rounded}


def measured(given: argparse.Namespace, known: pd.DataFrame) -> pd.DataFrame:
    """The known rows, those of --out, and the others as far as the minutes go; written to --out as they come."""
    path = given.out / ("small.csv" if given.small else kept.place(NAME).name)
    mine, end = kept.read(path, COLUMNS), time.monotonic() + 60 * given.minutes
    done = set(map(tuple, kept.merged(known, mine, NAMES)[NAMES].values.tolist()))
    left = [job for job in jobs(given) if tuple(job.name(given.pictures).values()) not in done]
    pipe = probe.load()
    eyes = Eyes(weights.clip(), pipe.tokenizer)
    drawn = cache(lambda question: gallery(pipe, eyes, question, given))
    for job in left:
        if time.monotonic() > end:
            print(f"the {given.minutes:g} minutes are over: {job.solver}, {job.question.prompt} and later are left")
            break
        found = row(job, drawn(job.question), given.out / ("small" if given.small else "full"))
        print(" | ".join(map(str, found.values())), flush=True)
        mine = kept.merged(mine, pd.DataFrame([found]), NAMES)
        kept.write(path, mine)
    return kept.merged(known, mine, NAMES)


def asked_for(rows: pd.DataFrame, given: argparse.Namespace) -> pd.DataFrame:
    """The rows of this very question, in its order."""
    order = {tuple(job.name(given.pictures).values()): i for i, job in enumerate(jobs(given))}
    place = pd.Series([order.get(tuple(name), -1) for name in rows[NAMES].values.tolist()], rows.index, int)
    return rows.loc[place.sort_values(kind="stable").index].loc[place >= 0]


def stable(rows: pd.DataFrame) -> float:
    """The mean over concepts of the share of words that its seeds have in common; NaN where each has one seed."""
    words = [[each.split() for each in some] for _, some in rows.groupby("concept")["words"]]
    found = [agreement(each, WORDS) for each in words if len(each) > 1]
    return float(np.mean(found)) if found else float("nan")


def by_solver(rows: pd.DataFrame) -> str:
    """Means over the concepts that a solver has rows of, and its time against the reference on the same concepts."""
    head = "| solver | rows | P@10 | P@5 | CLIP | processor s | of the reference's | stable |"
    lines = [head, "| --- |" + " --- |" * 7]
    many = {question.prompt for question in QUESTIONS if question.k == 10}
    slow = rows.loc[rows["solver"] == REFERENCE].set_index(["concept", "seed"])["processor"].astype(float)
    for name, some in rows.groupby("solver", sort=False):
        of_ten = some["concept"].isin(many)
        own = some.set_index(["concept", "seed"])["processor"].astype(float)
        share = (own / slow.reindex(own.index)).mean()
        cells = [
            *(some.loc[kind, "precision"].mean() for kind in (of_ten, ~of_ten)),
            some["cosine"].mean(),
        ]
        seen = [_number(cell) for cell in cells]
        last = [_whole(own.mean()), _number(share), _number(stable(some))]
        lines.append(f"| {' | '.join([str(name), str(len(some)), *seen, *last])} |")
    return "\n".join(lines)


def by_concept(rows: pd.DataFrame) -> str:
    """One line a concept and solver, of the first seed."""
    head = (
        "concept",
        "solver",
        "P@k",
        "man share (planted)",
        "CLIP",
        "KID",
        "diversity",
        "processor s",
        "largest words",
    )
    lines = [head, ["---"] * len(head)]
    for one in rows.loc[rows["seed"] == 0].to_dict("records"):
        planted = v.MAN_SHARE.get(one["concept"].split()[-1])
        gender = "" if planted is None else f"{_number(one['men'])} ({planted:.2f})"
        numbers = [_number(one[name]) for name in ("cosine", "kid", "diversity")]
        words = ", ".join(one["words"].split()[:5])
        last = [_whole(one["processor"]), words]
        lines.append([one["concept"], one["solver"], _number(one["precision"]), gender, *numbers, *last])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:.2f}"


def _whole(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}"


def page(rows: pd.DataFrame, given: argparse.Namespace) -> str:
    """What it rests on, then the tables."""
    whole = len(list(jobs(given)))
    short = "" if len(rows) == whole else f" **{whole - len(rows)} of {whole} rows are not measured yet.**"
    rests = (
        f"Weights {weights.revision()[:12]}; {rows['concept'].nunique()} concepts, {rows['seed'].nunique()} seeds of "
        f"learning, pictures of {max(rows['inference_steps'], default=0)} steps, each solver by its own recipe; "
        f"{given.pictures} pictures to compare at equal seeds, so KID is noise where these are few. Seconds are the "
        "processor's, of one thread, the solver's own pictures included; none where they were not measured beside the "
        f"reference.{short}"
    )
    return f"{rests}\n\n{by_solver(rows)}\n\n{by_concept(rows)}"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("out/concept_recovery"), help="the folder of decompositions and rows")
    add("--solvers", nargs="+", default=[*SOLVERS, *BASELINES], choices=[*SOLVERS, *BASELINES])
    add("--concepts", nargs="+", default=[question.prompt for question in QUESTIONS])
    add("--pictures", type=int, default=8, help="pictures that faithfulness is measured on")
    add("--again", type=int, default=0, help="further seeds to learn at, for the column `stable`")
    add("--minutes", type=float, default=float("inf"), help="begin no solver later than that")
    add("--small", action="store_true", help="few pictures and steps: to see that it runs")
    add("--write", action="store_true", help=f"put the tables into {PAGE} and the rows into {kept.RESULTS}")
    given = parser.parse_args(argv)
    kept.refuse_rehearsal(given)
    if given.small:
        given.pictures = min(given.pictures, 4)
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given, path = arguments(argv), kept.place(NAME)
    rows = measured(given, pd.DataFrame(columns=COLUMNS) if given.small else kept.read(path, COLUMNS))
    content = page(asked_for(rows, given), given)
    print(content)
    if given.write:
        kept.write(path, rows)
        PAGE.write_text(insert(PAGE.read_text("utf-8"), content), "utf-8")


if __name__ == "__main__":
    main()
