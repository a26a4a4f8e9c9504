"""An intervention: which subjects, which steps, and a loss over the maps of words, as data.

A latent intervention moves the latents before a step, against the gradient of its loss. It holds numbers and a formula;
what runs it lives in `probe.attach`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

Array = Any  # a torch.Tensor with a gradient; this module needs no torch


@dataclass(frozen=True, slots=True)
class Maps:
    """What a loss sees: `A` [y, x, token], the mean over heads and sites of the attention probabilities.

    `positions` are the tokens of each word, by label; `end` is the position of the end token.
    """

    A: Array
    positions: Mapping[str, tuple[int, ...]]
    end: int
    previous: "Maps | None" = None  # of the step before, without a gradient


@dataclass(frozen=True, slots=True)
class Score:
    """A loss (a scalar with a gradient, or 0.0) and what each subject contributed."""

    loss: Array
    subjects: Mapping[str, float] = field(default_factory=dict)


class LatentIntervention(BaseModel, ABC):
    """z <- z - step_size(i) * dL/dz before each of the first `max_steps` steps, and more often at the thresholds.

    `strength` 0 leaves the picture as it is, to the bit. `resolution` None takes the sites nearest to 16 x 16 cells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[str, ...] = ()
    strength: float = 1.0
    scale_factor: float = 20.0
    scale_range: tuple[float, float] = (1.0, 0.5)
    linear: bool = False  # the paper's decay, from scale_factor to half of it; the released code takes the root
    max_steps: int = 25
    thresholds: Mapping[int, float] = {}
    max_refinements: int = 20
    resolution: tuple[int, int] | None = None

    @property
    def method(self) -> str:
        """The name of the method."""
        return type(self).__name__

    @property
    def names(self) -> tuple[str, ...]:
        """Every word whose tokens the loss needs."""
        return self.subjects

    def step_size(self, step: int, steps: int) -> float:
        """alpha_i = scale_factor * sqrt(r_i), r linear over steps in `scale_range`; without the root if `linear`."""
        first, last = self.scale_range
        r = first + (last - first) * step / max(steps - 1, 1)
        return self.strength * self.scale_factor * (r if self.linear else r**0.5)

    def target(self, step: int) -> float | None:
        """The loss to reach by refinement at this step, if there is one: 1 - threshold."""
        threshold = self.thresholds.get(step)
        return None if threshold is None else max(0.0, 1.0 - threshold)

    @abstractmethod
    def score(self, maps: Maps) -> Score:
        """The loss of the maps."""
