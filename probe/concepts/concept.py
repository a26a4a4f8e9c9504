"""A concept: words with coefficients, which together stand in a prompt where the concept's own word would."""

import html
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from probe.errors import BadInput, NoSuchWord
from probe.trace import inline

if TYPE_CHECKING:
    from torch import Tensor

CONCEPT, DECOMPOSITION = "concept", "decomposition"  # kinds of pictures
TARGET = "before"  # what all words draw, where some were taken out
SHOWN = 12  # words in a notebook


@dataclass(frozen=True, eq=False)
class Concept:
    """What a model means by `prompt`: w* = sum of coefficient x embedding over `words`, at the vocabulary's mean norm.

    Words are decoded and sorted by the size of their coefficients; one coefficient counts in every text encoder.
    `norms`: by encoder. `losses`: one a step of learning. `pictures`: of the concept ("concept") and of its
    decomposition ("decomposition") at equal seeds, and of the largest words ("a cat"). It holds no model: `embed` and
    `spoken` are given one.
    A coefficient says how much of a word's embedding is mixed in, not how often the thing is in the pictures.
    """

    prompt: str
    words: tuple[str, ...]
    coefficients: tuple[float, ...]
    norms: Mapping[str, float]
    template: str = "a photo of {}"
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pictures: Mapping[str, tuple[Image.Image, ...]] = field(default_factory=dict[str, tuple[Image.Image, ...]])

    def __post_init__(self) -> None:
        if len(self.words) != len(self.coefficients) or not self.words:
            raise BadInput(
                f"a concept has as many coefficients as words, and one at least; got {len(self.words)} words and "
                f"{len(self.coefficients)} coefficients"
            )

    def __getitem__(self, word: str) -> float:
        """The coefficient of a word. Raises NoSuchWord, listing the words."""
        if word not in self.words:
            raise NoSuchWord(f"{word!r} is not in this concept; its words are: {', '.join(self.words)}")
        return self.coefficients[self.words.index(word)]

    @property
    def shares(self) -> dict[str, float]:
        """Each word's share of the sum of all sizes of coefficients."""
        total = sum(map(abs, self.coefficients)) or 1.0
        return {word: value / total for word, value in zip(self.words, self.coefficients, strict=True)}

    def top(self, count: int = 10) -> tuple[str, ...]:
        """The words with the largest coefficients, largest first."""
        order = np.argsort(-np.asarray(self.coefficients), kind="stable")
        return tuple(self.words[int(i)] for i in order[:count])

    def scaled(self, word: str, factor: float) -> "Concept":
        """The concept with one coefficient multiplied: above 1 turns it up, 0 takes the word out, below 0 against it.

        Pictures and losses are those of another concept, so they are not kept. Raises NoSuchWord.
        """
        self[word]
        scales = [factor if each == word else 1.0 for each in self.words]
        changed = tuple(value * scale for value, scale in zip(self.coefficients, scales, strict=True))
        done = [*self.provenance.get("scaled", ()), [word, factor]]
        none = np.zeros(0, np.float32)
        return replace(
            self, coefficients=changed, losses=none, pictures={}, provenance={**self.provenance, "scaled": done}
        )

    def without(self, words: Sequence[str]) -> "Concept":
        """The concept with the coefficients of some words at 0. Raises NoSuchWord."""
        concept = self
        for word in words:
            concept = concept.scaled(word, 0.0)
        return concept

    def data(self) -> dict[str, Any]:
        """What it is said from, as JSON can hold it: {concept, template, words: {word: coefficient}, norms}."""
        words = dict(zip(self.words, map(float, self.coefficients), strict=True))
        norms = {name: float(norm) for name, norm in self.norms.items()}
        return {"concept": self.prompt, "template": self.template, "words": words, "norms": norms}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Concept":
        """Back from `data()`, without pictures and losses. Raises BadInput."""
        try:
            words = {str(word): float(value) for word, value in data["words"].items()}
            norms = {str(name): float(norm) for name, norm in data["norms"].items()}
            return cls(str(data["concept"]), tuple(words), tuple(words.values()), norms, template=str(data["template"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadInput(f"this is not a concept ({error!r}); expected concept, template, words and norms") from error

    @property
    def of_words(self) -> dict[str, Image.Image]:
        """A picture of each word that has one, largest first."""
        drawn = ((word, self.pictures.get(f"a {word}")) for word in self.top(len(self.words)))
        return {word: shown[0] for word, shown in drawn if shown}

    def embed(self, pipe: Any) -> dict[str, "Tensor"]:
        """w* [1, channel] by text encoder, from the pipeline's own embeddings.

        Raises NoSuchWord for words that are no single tokens there, BadInput when all coefficients are 0.
        """
        from probe.concepts.utter import embed  # needs torch, which reading a concept does not

        return embed(self, pipe)

    @contextmanager
    def spoken(self, pipe: Any) -> Generator[str]:
        """A prompt that means this concept while the block runs; the pipeline's weights are not touched.

        with concept.spoken(pipe) as prompt: pipe(prompt)
        """
        from probe.concepts.utter import spoken

        with spoken(self, pipe) as prompt:
            yield prompt

    def save(self, folder: str | Path, *, exist_ok: bool = False) -> Path:
        """Write a new folder, whole or not at all; see `probe.concepts.storage`."""
        from probe.concepts.storage import write_concept  # which imports this file

        return write_concept(self, folder, exist_ok=exist_ok)

    def report(self, path: str | Path, *, exist_ok: bool = False) -> Path:
        """Write a page of HTML that holds all it shows: pictures, words, measures, settings. Raises OutputError."""
        from probe.concepts.card import card  # draws, which reading a concept does not
        from probe.show import concept_report

        return concept_report(card(self), path, exist_ok=exist_ok)

    @staticmethod
    def open(folder: str | Path) -> "Concept":
        """A saved concept; needs neither torch nor the model. Raises DamagedFile."""
        from probe.concepts.storage import open_concept

        return open_concept(folder)

    def _repr_html_(self) -> str:
        largest = max(map(abs, self.coefficients)) or 1.0
        rows = "".join(_bar(word, self[word], abs(self[word]) / largest) for word in self.top(SHOWN))
        kept = "".join(
            f"<p>{html.escape(name)}<br>{''.join(map(inline, self.pictures[name][:4]))}</p>"
            for name in (CONCEPT, DECOMPOSITION)
            if self.pictures.get(name)
        )
        return f"<div><b>Concept</b> {html.escape(self.prompt[:300])}{kept}<table>{rows}</table></div>"

    def __repr__(self) -> str:
        told = ", ".join(f"{word} {self[word]:.3g}" for word in self.top(SHOWN))
        more = len(self.words) - SHOWN
        return f"Concept({self.prompt!r}: {told}{f', and {more} more' if more > 0 else ''})"


def _bar(word: str, value: float, length: float) -> str:
    style = f"background:{'#4c78a8' if value >= 0 else '#b04040'};height:.8em;width:{length * 12:.1f}em"
    return f'<tr><th>{html.escape(word)}</th><td><div style="{style}"></div></td><td>{value:.3g}</td></tr>'
