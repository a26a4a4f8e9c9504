"""Steering: a concept as a direction, at chosen sites and steps, added to what they read or to what they give."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, ConfigDict, field_serializer
from torch import Tensor

from probe.axes import CHANNEL
from probe.concepts.concept import Concept
from probe.concepts.direction import Direction
from probe.concepts.pseudo_token import check_expressible, encoders
from probe.errors import BadInput, NoMatch
from probe.intervention import Given, OutputIntervention, PromptIntervention, chosen
from probe.site import matching

TOWARDS, AWAY = "towards", "away"


def _concept(said: Any) -> Any:
    """A concept from its data, as a study's file has it."""
    return Concept.from_data(said) if isinstance(said, Mapping) else said


Said = Annotated[str | Concept, BeforeValidator(_concept)]


class Steer(PromptIntervention):
    """Text states of the prompt <- states + strength (E(towards) - E(away)), token by token.

    E is what the pipeline's text encoders make of a phrase, or of a Concept, also as its `data()`. `away` is what the
    direction starts from: best the same phrase with a neutral word, so that the difference is the concept and not the
    phrasing. With `away` the prompt itself, strength 1 reads `towards` in its place; a negative strength leads away.
    Rows without the prompt stay. `sites` are patterns of cross-attentions (none: all), `steps` numbers from 0 (None:
    all). It does not show that the model holds the concept as this direction: any change of as many words moves it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    added: ClassVar[bool] = True

    towards: Said
    away: Said = ""
    strength: float = 1.0
    steps: tuple[int, ...] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        return (TOWARDS, AWAY)

    @contextmanager
    def saying(self, pipe: Any, text: str) -> Iterator[str]:
        """Raises BadPrompt for a phrase that the tokenizers cannot express, NoSuchWord for a concept's strange word."""
        said = self.towards if text == TOWARDS else self.away
        if isinstance(said, Concept):
            with said.spoken(pipe) as prompt:
                yield prompt
        else:
            yield check_expressible(said, encoders(pipe)) if said else said

    def weights(self, step: int, steps: int) -> Mapping[str, float] | None:
        on = chosen(self.steps, step, count=steps, method=self.method)
        return {TOWARDS: self.strength, AWAY: -self.strength} if on and self.strength else None

    @field_serializer(TOWARDS, AWAY)
    def _as_data(self, said: str | Concept) -> Any:
        return said if isinstance(said, str) else said.data()


class SteerOutputs(OutputIntervention):
    """Outputs of modules <- output + strength * direction, at every cell, frame and token, in rows of the prompt.

    `direction` is `probe.direction` of recorded runs; strength 1 moves as far as their means lie apart. `sites` are
    patterns of its modules (none: all), `steps` numbers from 0 (None: all).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    direction: Direction
    strength: float = 1.0
    sites: tuple[str, ...] = ()
    steps: tuple[int, ...] | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(name for name in self.direction.vectors if matching(name, self.sites))

    def check(self) -> None:
        """Raises NoMatch where the direction has no such module."""
        if not self.modules:
            raise NoMatch(
                f"sites={self.sites!r} names no module of this direction; it has {', '.join(self.direction.vectors)}"
            )

    def change(self, given: Given) -> Tensor | None:
        if not chosen(self.steps, given.step, count=given.steps, method=self.method) or not self.strength:
            return None
        vector, channel = torch.from_numpy(self.direction.vectors[given.module]), given.axes.index(CHANNEL)
        if len(vector) != given.values.shape[channel]:
            raise BadInput(
                f"the direction of {given.module} has {len(vector)} channels, and here it gives "
                f"{given.values.shape[channel]}: record the direction's runs on this model"
            )
        shape = [-1 if axis == CHANNEL else 1 for axis in given.axes]
        return given.values + self.strength * vector.to(given.values).reshape(shape)

    @field_serializer("direction")
    def _as_norms(self, direction: Direction) -> Any:
        return {**direction.provenance, "norms": direction.norms}
