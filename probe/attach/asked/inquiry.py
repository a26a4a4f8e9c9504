"""What to find out at chosen steps beside the pipeline's own passes: asked as data, answered as nodes of the trace."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from pydantic import BaseModel, ConfigDict
from torch import nn

from probe.attach.asked.controlnets import Lead
from probe.attach.model.families import Family
from probe.attach.text.rows import Row
from probe.errors import NoMatch
from probe.words import Prompt

EVERY_FIFTH = 5


@dataclass(frozen=True)
class Scene:
    """What a generation is made of: the live pipeline, its prompts, and where their content words lie.

    `told` are the arguments of each call with which the pipeline encoded its prompts. `words` has, per prompt, each
    content word's positions in the sequence of text states. `leads` are the ControlNets' last calls.
    """

    pipe: Any
    family: Family
    prompts: Sequence[Prompt]
    told: Sequence[Mapping[str, Any]]
    words: Sequence[Mapping[str, tuple[int, ...]]] = ()
    leads: Mapping[str, Lead] = field(default_factory=dict)


class Answer(ABC):
    """An inquiry at work on one generation; it holds what it needs of the model, and goes when the recording ends."""

    @abstractmethod
    def due(self, step: int) -> bool:
        """Whether something is to be read before this pass."""

    @abstractmethod
    def read(self, module: nn.Module, given: dict[str, Any], rows: Sequence[Row], step: int) -> None:
        """Read one step. `given` are the denoiser's arguments by name, `rows` says what each row of its batch is."""

    @abstractmethod
    def nodes(self) -> Mapping[str, xr.Dataset]:
        """What was found, on the host, as nodes of the trace."""


class Inquiry(BaseModel, ABC):
    """What to find out, and when. `steps`: None is every fifth step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[int, ...] | None = None

    def wants(self, step: int) -> bool:
        """Whether this step is asked for."""
        return step % EVERY_FIFTH == 0 if self.steps is None else step in self.steps

    def check_run(self, total: int) -> None:
        """Every step that is asked for must be one of the run's. Raises NoMatch."""
        outside = [step for step in self.steps or () if not 0 <= step < total]
        if outside or self.steps == ():
            raise NoMatch(
                f"{type(self).__name__}(steps={self.steps}) selects {outside or 'no step'}; this run has steps 0 to "
                f"{total - 1}. Leave steps out for every {EVERY_FIFTH}th"
            )

    @abstractmethod
    def begin(self, scene: Scene) -> Answer:
        """Start on a generation. Raises BadInput for what this model or these prompts cannot answer."""
