"""Which part of the guidance is a word's: the denoiser is asked again without it, all words in one batch.

For words w_1 .. w_n: eps(all) and eps(without w_i), one batch of n + 1; the word's guidance vector is their difference.
Without: its text states replaced by padding, which leaves what the encoder mixed into its neighbours, or the prompt
encoded again without it, which moves the words behind it. Differences of outputs are in the denoiser's own units.
"""

import itertools
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.asked.rerun import Beside, Reader, check_text
from probe.attach.text.encode import Text, encode, lacking, padded
from probe.errors import BadInput
from probe.words import Prompt

BATCH = 16  # coalitions a pass
OUTPUT, SHARE = "denoiser's output", "share of the squared guidance"
Replace = Literal["padding", "reencode"]


class LeaveOneOut(Inquiry):
    """What each word adds to the prediction (`probe.leave_one_out` reads the maps).

    `words`: None are the content words. `replace`: by "padding", or the prompt is encoded again without the word.
    """

    words: tuple[str, ...] | None = None
    replace: Replace = "padding"

    def begin(self, scene: Scene) -> Answer:
        check_text(scene, "LeaveOneOut")
        return LeaveOneOutReader(scene, self.wants, Remover(scene, self.replace), chosen(scene, self.words))


class Shapley(LeaveOneOut):
    """Each word's fair part of the guidance: its mean difference over orders in which the words are added.

    v(S) is the inner product of eps(S) - eps(no words) with eps(all) - eps(no words), in units of the latter's square,
    so that the values of all words sum to 1. `permutations` orders are drawn from `seed`; all, if there are no more.
    """

    permutations: int = Field(default=8, ge=2)
    seed: int = 0

    def begin(self, scene: Scene) -> Answer:
        check_text(scene, "Shapley")
        return ShapleyReader(scene, self.wants, Remover(scene, self.replace), chosen(scene, self.words), self)


def chosen(scene: Scene, words: Sequence[str] | None) -> list[list[str]]:
    """Per prompt: the labels of the words asked for that it has, or of its content words. Raises NoSuchWord."""
    if words is None:
        found = [[word.label for word in prompt.words if word.content] for prompt in scene.prompts]
    else:
        found = [[prompt.find(word).label for word in words] for prompt in scene.prompts]
    if not all(found):
        raise BadInput(f"there is no word to leave out in {scene.prompts[0].text!r}; name some: words=('cat',)")
    return found


@dataclass
class Remover:
    """Text states without some of the words."""

    scene: Scene
    replace: Replace
    _texts: dict[str, Text] = field(default_factory=dict)

    @torch.no_grad()
    def predict(self, beside: Beside, absent: Sequence[Collection[str]]) -> Tensor:
        """[n, c, y, x] the prediction without each set of words."""
        prompt = self.scene.prompts[beside.row.prompt]
        if self.replace == "padding":
            rows = [padded(prompt, self.scene.family, beside.states, words) for words in absent]
            return beside.predict(torch.stack(rows))
        texts = [self._encoded(prompt, words) for words in absent]
        lengths = {len(text.states) for text in texts}
        if lengths != {len(beside.states)}:
            raise BadInput(
                f"without a word the text has {min(lengths)} states instead of {len(beside.states)}: "
                f"{self.scene.family.name} does not pad its text, so the prompts do not fit in one batch; "
                "run the pipeline again without it: probe.without(pipe, prompt)"
            )
        pooled = [text.pooled for text in texts if text.pooled is not None]
        states = torch.stack([text.states for text in texts]).to(beside.states)
        whole = torch.stack(pooled).to(beside.states) if pooled else None
        return beside.predict(states, pooled=whole, masks=[text.masks for text in texts])

    def _encoded(self, prompt: Prompt, words: Collection[str]) -> Text:
        text = lacking(prompt, words)
        if text not in self._texts:
            self._texts[text] = encode(self.scene, text, like=prompt)
        return self._texts[text]


def shares(parts: Tensor, whole: Tensor) -> Tensor:
    """[..., y, x]: <part, whole> / |whole|^2 for parts [..., c, y, x], cell by cell; the whole itself sums to 1.

    Films have frames between c and y.
    """
    return (parts * whole).sum(-whole.ndim) / (whole**2).sum().clamp_min(1e-30)


@dataclass
class LeaveOneOutReader(Reader):
    """The words' guidance vectors of one generation, as norms and shares."""

    remover: Remover
    words: Sequence[Sequence[str]]  # per prompt
    against: str = "uncond"

    def look(self, beside: Beside, step: int) -> None:
        words, place = self.words[beside.row.prompt], (step, beside.row.image)
        other = beside.other()
        sets = [(), *((word,) for word in words), *([tuple(words)] if other is None else [])]
        eps = self.remover.predict(beside, sets)
        whole = beside.framed(eps[0] - (eps[-1] if other is None else other))
        vectors = beside.framed(eps[0] - eps[1 : len(words) + 1])  # [word, c, y, x], of films [word, c, frame, y, x]
        share = shares(vectors, whole).flatten(1).sum(1)
        self.findings.note_all("magnitude", place, dict(zip(words, vectors.norm(dim=1), strict=True)))
        self.findings.note_all("norm", place, dict(zip(words, vectors.flatten(1).norm(dim=1), strict=True)))
        self.findings.note_all("share", place, dict(zip(words, share, strict=True)))
        self.findings.note("interaction", (*place, ""), 1 - share.sum())
        self.findings.note("total", (*place, ""), whole.norm())
        self.against = "uncond" if other is not None else "no words"

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """/leave_one_out: norms by word and cell, shares of the guidance, and what they leave over."""
        if not self.findings.values:
            return {}
        units = {"magnitude": OUTPUT, "norm": OUTPUT, "total": OUTPUT, "share": SHARE, "interaction": SHARE}
        attributes = {"replace": self.remover.replace, "against": self.against}
        return {"/leave_one_out": self.findings.dataset(units, attributes)}


@dataclass
class ShapleyReader(Reader):
    """Shapley values of one generation, with the error of their sampling."""

    remover: Remover
    words: Sequence[Sequence[str]]  # per prompt
    request: Shapley

    def look(self, beside: Beside, step: int) -> None:
        words, place = self.words[beside.row.prompt], (step, beside.row.image)
        drawn = orders(len(words), self.request.permutations, self.request.seed + step)  # errors of steps are apart
        values = self._values(beside, words, drawn)
        gains = [gained(order, values) for order in drawn]
        exact = len(drawn) == math.factorial(len(words))
        for i, word in enumerate(words):
            planes = torch.stack([gain[i] for gain in gains])  # [order, y, x], of films [order, frame, y, x]
            sums = planes.flatten(1).sum(1)
            self.findings.note("value", (*place, word), planes.mean(0))
            self.findings.note("share", (*place, word), sums.mean())
            error = torch.zeros(()) if exact else sums.std() / len(drawn) ** 0.5
            self.findings.note("error", (*place, word), error)

    def _values(
        self, beside: Beside, words: Sequence[str], drawn: Sequence[Sequence[int]]
    ) -> dict[frozenset[int], Tensor]:
        """v(S) cell by cell, for every coalition that an order passes through; the empty one is 0."""
        everything = frozenset(range(len(words)))
        sets = list(dict.fromkeys(frozenset(order[:i]) for order in drawn for i in range(len(order) + 1)))
        absent = [[words[i] for i in sorted(everything - present)] for present in sets]
        parts = [self.remover.predict(beside, absent[i : i + BATCH]) for i in range(0, len(sets), BATCH)]
        eps = beside.framed(torch.cat(parts))
        nothing = eps[sets.index(frozenset())]
        worth = shares(eps - nothing, eps[sets.index(everything)] - nothing)
        return dict(zip(sets, worth, strict=True))

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """/shapley: values by word and cell, their sums over cells, and one standard error of these."""
        if not self.findings.values:
            return {}
        units = {"value": SHARE, "share": SHARE, "error": SHARE}
        attributes = self.request.model_dump(include={"replace", "permutations", "seed"})
        return {"/shapley": self.findings.dataset(units, attributes)}


def orders(count: int, permutations: int, seed: int) -> list[tuple[int, ...]]:
    """Different orders of `count` words: all, if there are no more than asked for, else a sample without repeats."""
    if math.factorial(count) <= permutations:
        return list(itertools.permutations(range(count)))
    rng, drawn = random.Random(seed), dict[tuple[int, ...], None]()
    while len(drawn) < permutations:
        drawn[tuple(rng.sample(range(count), count))] = None
    return list(drawn)


def gained(order: Sequence[int], values: Mapping[frozenset[int], Tensor]) -> list[Tensor]:
    """By word: what it adds to those before it."""
    gain = {w: values[frozenset(order[: i + 1])] - values[frozenset(order[:i])] for i, w in enumerate(order)}
    return [gain[i] for i in range(len(order))]
