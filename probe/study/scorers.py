"""What is read from a job's picture: each scorer gives named values, which become columns of the table.

A scorer is data (settings that can be written in a YAML file) and one method; a package brings its own by inheriting
from `Scorer` and naming the class in an entry point of the group "probe.scorers", or in the study as "module:Class".
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from probe.generator.world import vocabulary as v

if TYPE_CHECKING:
    from PIL import Image

    from probe.generator.judge import Verdict
    from probe.heatmap import Heatmap
    from probe.study.plan import Job
    from probe.trace import Trace

Value = bool | int | float | str | None
Values = Mapping[str, Value | Sequence[Value]]

# Menagerie's own words around a phrase; methods.md, 1.9: the paper averages over the 80 templates of ImageNet.
TEMPLATES = (
    "{}",
    *(f"{opening} {{}}" for opening in v.OPENINGS),
    "this is {}",
    "there is {}",
    "it is {}",
    "this picture has {}",
    "{} on the grass",
    "{} in a room",
)
HALVES = (" and ", " with ")


@dataclass(frozen=True)
class Shot:
    """What a job made. `seconds`: of drawing, a share of its batch; `maps`: a heatmap a subject, by explainer."""

    job: "Job"
    picture: "Image.Image"
    seconds: float
    steps: int
    guidance: float | None = None
    trace: "Trace | None" = None
    maps: Mapping[str, Mapping[str, "Heatmap"]] = field(default_factory=dict)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The labels of the prompt's subjects."""
        return self.job.row.subjects or ()

    def shown(self, names: Sequence[str]) -> "Shot":
        """The same shot, with no further columns of the prompt's row than these."""
        row = self.job.row
        told = {name: value for name, value in row.columns.items() if name in names}
        kept = type(row)(prompt=row.prompt, subjects=row.subjects, attributes=row.attributes, **told)
        return replace(self, job=replace(self.job, row=kept))

    @property
    def attributes(self) -> tuple[str | None, ...]:
        """What describes each subject, or None."""
        return self.job.row.attributes or (None,) * len(self.subjects)


class Scorer(BaseModel, ABC):
    """Reads values from what a job made; its fields are its settings, and part of the job's key.

    `menagerie`: whether it looks with Menagerie's judge or CLIP, so that their weights are part of the key too;
    `reads`: the further columns of the prompt's row that it reads, so that they are; it is given no others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    menagerie: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def score(self, shot: Shot) -> Values:
        """Numbers, texts, truth values, or lists of them (one a subject), by name."""


class Time(Scorer):
    """Seconds of drawing, for a picture and for a step; in a batch each picture has an equal share."""

    def score(self, shot: Shot) -> Values:
        return {"picture": shot.seconds, "step": shot.seconds / max(shot.steps, 1)}


class Judge(Scorer):
    """Menagerie's judge: which subjects are there, with which colours, and whether two of them are fused into one.

    Of a word that names nothing in Menagerie's world nothing is said (None). With explainers, also whether each map
    peaks on its subject. The judge errs: its own error is in Menagerie's card.
    """

    menagerie = True

    def score(self, shot: Shot) -> Values:
        verdict = _judge().read(shot.picture)
        return judged(verdict, shot.subjects, shot.attributes) | _hits(verdict, shot)


class Clip(Scorer):
    """Cosine of the picture with the whole prompt (`full`) and with the worse half of it (`least`), Menagerie's CLIP.

    Text embeddings are means of unit embeddings over `templates`, made unit again. The prompt is halved at " and ",
    else at " with "; without either the whole is its only half.
    """

    menagerie = True
    templates: tuple[str, ...] = TEMPLATES

    def score(self, shot: Shot) -> Values:
        prompt = shot.job.row.prompt
        picture = picture_embedding(shot.picture)
        close = [float(picture @ text_embedding(phrase, self.templates)) for phrase in (prompt, *halves(prompt))]
        return {"full": close[0], "least": min(close[1:])}


BUILT_IN: tuple[type[Scorer], ...] = (Judge, Clip, Time)


def judged(verdict: "Verdict", subjects: Sequence[str], attributes: Sequence[str | None]) -> dict[str, Any]:
    """What a verdict says about subjects and their colours; None for what is not in the world.

    present, right (the colour), leaked (it has the colour asked of another subject): one a subject. neglected: how many
    are absent. all_present, all_right: of every one that can be judged. fused: see `fused`.
    """
    names = [label.partition("#")[0] for label in subjects]
    present = [_present(verdict, names, i) for i in range(len(names))]
    wanted = [_colour(attribute) for attribute in attributes]
    seen = [_colours(verdict, name) for name in names]
    right = [None if c is None or p is None else p and c in s for c, p, s in zip(wanted, present, seen, strict=True)]
    leaked = [_leaked(i, wanted, seen) if present[i] else None for i in range(len(names))]
    known = [p for p in present if p is not None]
    return {
        "present": present,
        "right": right,
        "leaked": leaked,
        "neglected": known.count(False),
        "all_present": all(known) if known else None,
        "all_right": all(r for r in right if r is not None) if any(r is not None for r in right) else None,
        "fused": fused(verdict, names),
    }


def _present(verdict: "Verdict", names: Sequence[str], i: int) -> bool | None:
    """Whether the i-th subject is there: of "a cat and a cat" the second needs two cats."""
    kinds = _meaning(names[i])
    if not kinds:
        return None
    return sum(one.kind in kinds for one in verdict.instances) >= Counter(names[: i + 1])[names[i]]


def _leaked(i: int, wanted: Sequence[str | None], seen: Sequence[frozenset[str]]) -> bool:
    others = {colour for j, colour in enumerate(wanted) if j != i and colour} - {wanted[i]}
    return bool(seen[i] & others)


def fused(verdict: "Verdict", names: Sequence[str]) -> bool | None:
    """Whether any two different subjects are one thing, as the judge sees it. None: no two are there to be fused."""
    found = [verdict.fused(a.casefold(), b.casefold()) for a, b in combinations(dict.fromkeys(names), 2)]
    known = [value for value in found if value is not None]
    return any(known) if known else None


def _hits(verdict: "Verdict", shot: Shot) -> dict[str, Any]:
    """By explainer, for each subject: whether its map peaks on it; None where the subject is not there."""
    masks = {subject: verdict.mask(subject.partition("#")[0]) for subject in shot.subjects}
    return {
        f"{name}_hit": [bool(_at_peak(maps[s], masks[s])) if masks[s].any() else None for s in shot.subjects]
        for name, maps in shot.maps.items()
    }


def _at_peak(heatmap: "Heatmap", mask: np.ndarray) -> np.bool_:
    """Whether the middle of a map's largest cell lies on a mask."""
    (row, column), (rows, columns) = heatmap.peak, heatmap.values.shape
    return mask[int((row + 0.5) * mask.shape[0] / rows), int((column + 0.5) * mask.shape[1] / columns)]


def _colour(attribute: str | None) -> str | None:
    """The world's name of a colour."""
    named = {word: colour for colour, words in v.COLOUR_SYNONYMS.items() for word in (colour, *words)}
    return named.get((attribute or "").casefold())


def _colours(verdict: "Verdict", name: str) -> frozenset[str]:
    kinds = _meaning(name)
    return frozenset(one.colour for one in verdict.instances if one.kind in kinds and one.colour)


def _meaning(name: str) -> frozenset[str]:
    return import_module("probe.generator.judge").meaning(name.casefold())


@cache
def _judge() -> Any:
    return import_module("probe.generator.weights").judge()


@cache
def _clip() -> tuple[Any, Any]:
    weights = import_module("probe.generator.weights")
    return weights.clip(), import_module("probe.generator.tokenizer").build()


def halves(prompt: str) -> tuple[str, ...]:
    """The prompt's parts around " and ", else around " with "; else the whole. There may be more than two."""
    cut = next((word for word in HALVES if word in prompt), None)
    return (prompt,) if cut is None else tuple(prompt.split(cut))


def insert(phrase: str, template: str) -> str:
    """The phrase in a template; of two articles that meet there the phrase's own stays."""
    before, _, after = template.partition("{}")
    if re.match(r"(a|an|the)\b", phrase):
        before = re.sub(r"\b(a|an|the)\s*$", "", before)
    return f"{before}{phrase}{after}"


@cache
def text_embedding(phrase: str, templates: tuple[str, ...] = TEMPLATES) -> np.ndarray:
    """[128] of length 1: the mean over templates of the phrase's unit embeddings."""
    torch = import_module("torch")
    model, tokenizer = _clip()
    texts = [insert(phrase, template) for template in templates]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        states = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    return _unit(_unit(states.float().numpy()).mean(0))


def picture_embedding(picture: "Image.Image") -> np.ndarray:
    """[128] of length 1."""
    torch = import_module("torch")
    model, _ = _clip()
    pixels = import_module("probe.generator.judge").signed(picture)[None]
    with torch.no_grad():
        states = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    return _unit(states.float().numpy())[0]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
