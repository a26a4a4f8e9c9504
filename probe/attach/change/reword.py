"""Prompt interventions at work: other text states for the rows of the prompt, or other predictions in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.change.alter import Arguments, arguments_of_row, name_of
from probe.attach.kept.attention import Pass
from probe.attach.take import STATES
from probe.attach.text.encode import Text
from probe.errors import BadInput
from probe.intervention import PromptIntervention

POOLED = ("text_embeds", "pooled_projections")  # by the names that denoisers have for one state a text


@dataclass(frozen=True)
class Rewording:
    """One prompt intervention, with what its texts were encoded to."""

    item: PromptIntervention
    texts: Mapping[str, Text]
    scheduler: Any

    def states(self, given: Arguments, current: Pass) -> Arguments:
        """The denoiser's arguments with the weighted sum of the texts' states in the rows of the prompt."""
        weights = self.item.weights(current.step, len(self.scheduler.timesteps))
        if weights is None or self.item.by_predictions:
            return given
        rows = [i for i, row in enumerate(current.rows) if row.branch == "cond"]
        return said(given, rows, weighted(weights, self.texts))

    @torch.no_grad()
    def predictions(self, module: nn.Module, given: Arguments, current: Pass, output: Any) -> Any:
        """The denoiser's output where the prompt's prediction is u + sum of w (e - u): u without a text, e of each."""
        weights = self.item.weights(current.step, len(self.scheduler.timesteps))
        if weights is None or not self.item.by_predictions:
            return output
        value = value_of(output).clone()
        for i, row in enumerate(current.rows):
            if row.branch == "cond":
                u = value_of(output)[self._without(current, i)]
                single = arguments_of_row(given, i, len(current.rows))
                e = {t: value_of(module.forward(**said(single, [0], self.texts[t])))[0] for t in weights}
                value[i] = u + sum(weight * (e[text] - u) for text, weight in weights.items())
        return with_value(output, value)

    def _without(self, current: Pass, index: int) -> int:
        """The row without a text of the same picture."""
        own = current.rows[index]
        found = [i for i, r in enumerate(current.rows) if r.branch in ("uncond", "negative") and r.image == own.image]
        if not found:
            raise BadInput(
                f"{self.item.method} adds up guidance, and needs both branches in one batch: use a model with "
                "classifier-free guidance in one call, and a guidance_scale above 1"
            )
        return found[0]


def weighted(weights: Mapping[str, float], texts: Mapping[str, Text]) -> Text:
    """The weighted sum of what texts were encoded to."""
    chosen = [texts[name] for name in weights]
    pooled = [text.pooled for text in chosen if text.pooled is not None]
    shares = list(weights.values())
    return Text(chosen[0].prompt, _sum([t.states for t in chosen], shares), _sum(pooled, shares) if pooled else None)


def _sum(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Of one row with weight 1, that row to the bit."""
    total = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total = total + row * weight
    return total


def said(given: Arguments, rows: Sequence[int], text: Text) -> Arguments:
    """The arguments with another text in some rows. Raises BadInput where the states have another shape."""
    if not any(isinstance(given.get(name), Tensor) for name in STATES):
        raise BadInput("this denoiser is not given its text states as one tensor, so no other text can take its place")
    name = name_of(given, STATES)
    if given[name].shape[1:] != text.states.shape:
        raise BadInput(
            f"{text.prompt.text!r} was encoded to {list(text.states.shape)}, and the denoiser is given "
            f"{list(given[name].shape[1:])} a row; write prompts of the same length"
        )
    given = given | {name: _put(given[name], rows, text.states)}
    return given if text.pooled is None else _pooled(given, rows, text.pooled)


def _pooled(given: Arguments, rows: Sequence[int], pooled: Tensor) -> Arguments:
    """The pooled state too, wherever the denoiser is given one."""
    found = dict(given)
    for name, value in given.items():
        if isinstance(value, dict):
            found[name] = _pooled(value, rows, pooled)
        elif name in POOLED and isinstance(value, Tensor):
            found[name] = _put(value, rows, pooled)
    return found


def _put(x: Tensor, rows: Sequence[int], row: Tensor) -> Tensor:
    x = x.clone()
    x[list(rows)] = row.to(x)
    return x


def value_of(output: Any) -> Tensor:
    """The prediction in what a denoiser returned."""
    return output[0] if isinstance(output, tuple | list) else output.sample


def with_value(output: Any, value: Tensor) -> Any:
    """The same with another prediction."""
    return (value, *output[1:]) if isinstance(output, tuple | list) else type(output)(**{**output, "sample": value})
