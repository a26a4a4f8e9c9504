"""Prompt interventions at work: other text states for the rows of the prompt, or other predictions in their place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.change.alter import Arguments, arguments_of_row, name_of
from probe.attach.given import STATES
from probe.attach.kept.passes import Pass
from probe.attach.text.encode import Text, masked
from probe.attach.text.rows import Row
from probe.errors import BadInput, NoMatch
from probe.intervention import PromptIntervention
from probe.site import matching

Put = Callable[[Tensor, Sequence[int], Tensor], Tensor]
POOLED = ("text_embeds", "pooled_projections")  # by the names that denoisers have for one state a text


@dataclass
class Rewording:
    """One prompt intervention, with what its texts were encoded to."""

    item: PromptIntervention
    texts: Mapping[str, Text]
    scheduler: Any
    read: bool = False  # whether one of the sites has read the text in this pass

    def states(self, given: Arguments, current: Pass) -> Arguments:
        """The denoiser's arguments with the weighted sum of the texts' states in the rows of the prompt."""
        return given if self.item.sites or self.item.by_predictions else self._said(given, current.rows, current.step)

    def at_site(self, path: str, given: Arguments, current: Pass) -> Arguments:
        """The same for an attention that reads the text, if it is one of the sites."""
        if not self.item.sites or not matching(path, self.item.sites):
            return given
        self.read = True
        return self._said(given, current.rows, current.step)

    def check(self, current: Pass) -> None:
        """A pass has ended. Raises NoMatch where none of the sites read the text."""
        read, self.read = self.read, False
        if self.item.sites and not read:
            raise NoMatch(
                f"{self.item.method}: no attention that matches sites={self.item.sites!r} is given the text states as "
                'they were encoded; name cross-attentions of a U-Net ("*down_blocks*attn2"), or leave sites out'
            )

    def lead(self, given: Arguments, rows: Sequence[Row], step: int) -> Arguments:
        """The same for a ControlNet, which reads the prompt before the denoiser does. Raises BadInput."""
        if self.item.by_predictions:
            raise BadInput(
                f"{self.item.method} adds up the predictions of several texts, and the ControlNet of this pipeline "
                "reads the prompt alone: use a method that adds up text states, or a pipeline without a ControlNet"
            )
        return given if self.item.sites or not rows else self._said(given, rows, step)

    def _said(self, given: Arguments, rows: Sequence[Row], step: int) -> Arguments:
        weights = self.item.weights(step, len(self.scheduler.timesteps))
        if weights is None:
            return given
        every = len(given[_states(given)]) // len(rows)  # films may repeat the text for every frame
        own = (i for i, row in enumerate(rows) if row.branch == "cond")
        places = [i * every + frame for i in own for frame in range(every)]
        return said(given, places, weighted(weights, self.texts), added=self.item.added)

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
                single, own = _single(given, i, len(current.rows))
                e = {t: value_of(module.forward(**said(single, own, self.texts[t])))[0] for t in weights}
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
    """The weighted sum of what texts were encoded to. Raises BadInput for texts of different lengths."""
    chosen = [texts[name] for name in weights]
    other = next((text for text in chosen if text.states.shape != chosen[0].states.shape), None)
    if other is not None:
        raise BadInput(
            f"{chosen[0].prompt.text!r} was encoded to {len(chosen[0].states)} states and {other.prompt.text!r} to "
            f"{len(other.states)}: this model gives each token of a text one, so write texts with as many tokens"
        )
    pooled = [text.pooled for text in chosen if text.pooled is not None]
    shares = list(weights.values())
    return Text(
        chosen[0].prompt,
        _sum([text.states for text in chosen], shares),
        _sum(pooled, shares) if pooled else None,
        {name: _sum([text.further[name] for text in chosen], shares) for name in chosen[0].further},
        [torch.stack(masks).amax(0) for masks in zip(*(text.masks for text in chosen), strict=True)],
    )


def _sum(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Of one row with weight 1, that row to the bit."""
    total = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total = total + row * weight
    return total


def said(given: Arguments, rows: Sequence[int], text: Text, *, added: bool = False) -> Arguments:
    """The arguments with another text in some rows, or `added` to theirs. Raises BadInput for another shape."""
    name = _states(given)
    if given[name].shape[1:] != text.states.shape:
        raise BadInput(
            f"{text.prompt.text!r} was encoded to {list(text.states.shape)}, and the denoiser is given "
            f"{list(given[name].shape[1:])} a row; write prompts of the same length"
        )
    put = _add if added else _put
    parts = {name: text.states} | {name: row for name, row in text.further.items() if name in given}
    given = given | {name: put(given[name], rows, row) for name, row in parts.items()}
    given = given if added else masked(given, rows, text.masks)
    return given if text.pooled is None else _pooled(given, put, rows, text.pooled)


def _single(given: Arguments, row: int, rows: int) -> tuple[Arguments, range]:
    """The arguments of one row, and the rows of its text: films may repeat it for every frame."""
    name = _states(given)
    every = len(given[name]) // rows
    text = given[name][row * every : (row + 1) * every]
    return arguments_of_row(given, row, rows) | {name: text}, range(every)


def _states(given: Arguments) -> str:
    """The name of the text states. Raises BadInput where they are no tensor."""
    if not any(isinstance(given.get(name), Tensor) for name in STATES):
        raise BadInput("this denoiser is not given its text states as one tensor, so no other text can take its place")
    return name_of(given, STATES)


def _pooled(given: Arguments, put: Put, rows: Sequence[int], pooled: Tensor) -> Arguments:
    """The pooled state too, wherever the denoiser is given one."""
    found = dict(given)
    for name, value in given.items():
        if isinstance(value, dict):
            found[name] = _pooled(value, put, rows, pooled)
        elif name in POOLED and isinstance(value, Tensor):
            found[name] = put(value, rows, pooled)
    return found


def _put(x: Tensor, rows: Sequence[int], row: Tensor) -> Tensor:
    x = x.clone()
    x[list(rows)] = row.to(x)
    return x


def _add(x: Tensor, rows: Sequence[int], row: Tensor) -> Tensor:
    x = x.clone()
    x[list(rows)] += row.to(x)
    return x


def value_of(output: Any) -> Tensor:
    """The prediction in what a denoiser returned."""
    return output[0] if isinstance(output, tuple | list) else output.sample


def with_value(output: Any, value: Tensor) -> Any:
    """The same with another prediction."""
    return (value, *output[1:]) if isinstance(output, tuple | list) else type(output)(**{**output, "sample": value})
