"""Edits of attention: a word heeded more or less, another prompt's attention, values from phrases read alone."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeInt, model_validator
from torch import Tensor

from probe.errors import BadInput
from probe.intervention import AttentionIntervention, Seen, check_once
from probe.nurse.align import Pairs, refinement, replacement
from probe.nurse.prompts import phrases_of
from probe.nurse.settings import Share

ALIGN = {"replace": replacement, "refine": refinement}


class ScaleAttention(AttentionIntervention):
    """Cells give each word `factors` times what they gave to it: P[:, word] <- factor * P[:, word], not renormalised.

    In the rows of the prompt, at the steps from `first` to before `last`, as shares of all; in joint attention the rows
    of the picture only. The same as prompt-to-prompt's reweighting within one prompt.
    """

    joint: ClassVar[bool] = True

    factors: Mapping[str, float] = {}
    first: Share = 0.0
    last: Share = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.factors)

    def check(self) -> None:
        """Raises BadInput without words, with two factors for one, or where no step is between first and last."""
        if not self.factors:
            raise BadInput("ScaleAttention has no words; give each its factor: factors={'red': 2.0}")
        check_once(self.method, "factors", self.factors)
        if self.first >= self.last:
            raise BadInput(
                f"ScaleAttention acts from first={self.first:g} to before last={self.last:g} of the steps, which are "
                "none; give first < last, such as first=0, last=0.5"
            )

    def check_run(self, steps: int) -> None:
        """Raises BadInput where none of so many steps is between first and last."""
        if not any(self._inside(step, steps) for step in range(steps)):
            raise BadInput(
                f"ScaleAttention acts from first={self.first:g} to before last={self.last:g} of the steps, and none of "
                f"the {steps} of this run is there; put them further apart, or take more steps"
            )

    def due(self, kind: str, step: int, steps: int) -> bool:
        heeded = any(factor != 1 for factor in self.factors.values())
        return kind != "self" and heeded and self._inside(step, steps)

    def _inside(self, step: int, steps: int) -> bool:
        return self.first * steps <= step < self.last * steps

    def change(self, seen: Seen) -> Tensor:
        return seen.attend(scaled(seen, self.factors))


class Sourced(AttentionIntervention):
    """An edit that takes attention from another run: of the `source` prompt in the same call, or of a recorded one.

    In one call with the same noise: pipe([source, edited], generator=[g0, g1]), both seeded alike; or `recorded`, a
    trace of as many steps, which holds what the attention modules projected (see `AttentionIntervention`).
    """

    prompt: NonNegativeInt | None = 1
    source: NonNegativeInt | None = 0

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A recorded run is no prompt of the call, all of whose prompts are changed."""
        return given if given.get("recorded") is None else {"prompt": None, "source": None} | given

    def check(self) -> None:
        """Raises BadInput for one prompt that is to be its own source, or for two sources."""
        if self.recorded is not None and self.source is not None:
            raise BadInput(f"{self.method} has two sources: source={self.source!r} and a recorded run; leave one out")
        if self.recorded is None and (self.prompt is None or self.source is None or self.prompt == self.source):
            raise BadInput(
                f"{self.method} needs two prompts: prompt={self.prompt!r}, source={self.source!r}; "
                "they are ranks in pipe([source, edited]); or give recorded=trace, on the command line recorded=FOLDER"
            )


class PromptToPrompt(Sourced):
    """Prompt-to-prompt (Hertz et al. 2023): the edited prompt's picture keeps the layout of the source's.

    For the first `cross` of the steps, cells give the edited prompt's tokens what those of the source gave to theirs:
    with "replace" word by word (as many words in both), with "refine" where the tokens are the same, the rest keeping
    its own. For the first `own` of the steps, self-attention of up to `cells` cells is the source's. `factors` scale
    words of the edited prompt. The shares are those of the released notebooks; their local blending is not here.
    """

    mode: Literal["replace", "refine"]
    cross: Share = 0.8
    own: Share = 0.4
    cells: NonNegativeInt = 256
    factors: Mapping[str, float] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.factors)

    def due(self, kind: str, step: int, steps: int) -> bool:
        return step < (self.own if kind == "self" else self.cross) * steps

    def change(self, seen: Seen) -> Tensor | None:
        assert seen.source is not None and seen.source_prompt is not None  # `source` is set
        if seen.kind == "self":
            return seen.source(seen.values) if seen.values.shape[-2] <= self.cells else None
        values = scaled(seen, self.factors)
        pairs = ALIGN[self.mode](seen.source_prompt, seen.prompt, seen.encoder)
        taken, kept = exchanged(values, pairs)
        out = seen.source(taken)
        return out + seen.attend(kept) if self.mode == "refine" else out


class StructuredDiffusion(AttentionIntervention):
    """Structured diffusion guidance (Feng et al. 2023): each phrase's words mean what they mean when read alone.

    The values of cross-attention are the mean over the prompt and, for each of the `phrases`, the prompt with that
    phrase's states as it is encoded by itself; keys, and so the maps, are the prompt's. Without `phrases` they are the
    nouns of `bindings`, each behind its modifiers.
    """

    phrases: tuple[str, ...] = ()
    bindings: Mapping[str, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return self.texts

    @property
    def texts(self) -> tuple[str, ...]:
        return self.phrases or phrases_of(self.bindings)

    def check(self) -> None:
        """Raises BadInput without phrases."""
        if not self.texts:
            raise BadInput("StructuredDiffusion has no phrases; name them: phrases=['a red car', 'a blue bowl']")

    def due(self, kind: str, step: int, steps: int) -> bool:
        return kind == "cross"

    def change(self, seen: Seen) -> Tensor:
        assert seen.other is not None
        every = [seen.values, *(seen.other(phrase) for phrase in self.texts)]
        return seen.attend(torch.stack(every).mean(0))


def scaled(seen: Seen, factors: Mapping[str, float]) -> Tensor:
    """The values with those of some words times a factor: P diag(c) V gives the word c times its probability."""
    values = seen.values.clone()
    for word, factor in factors.items():
        values[:, list(seen.columns(word))] *= factor
    return values


def exchanged(values: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(M V, the values of the columns that no pair names) for P <- P_source M + P (1 - what is taken).

    `pairs` are (column of the source, own column, share); values [h, t, d]. So P_source M is never made.
    """
    taken, kept = torch.zeros_like(values), values.clone()
    for theirs, own, share in pairs:
        taken[:, theirs] += share * values[:, own]
        kept[:, own] = 0
    return taken, kept
