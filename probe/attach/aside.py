"""What runs beside the pipeline's own passes: interventions that move latents, and relevancies of chosen steps."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from probe.attach.alter import Alteration
from probe.attach.families import Family
from probe.attach.lexicon import dictionary
from probe.attach.relevant import Relevancy, RelevancyReader
from probe.attach.rows import Row
from probe.intervention import LatentIntervention
from probe.words import Prompt

Arguments = dict[str, Any]


@dataclass
class Asides:
    """The side passes of one generation."""

    interventions: Sequence[LatentIntervention] = ()
    relevancy: Relevancy | None = None
    alterations: list[Alteration] = field(default_factory=list)
    relevancies: RelevancyReader | None = None

    def plan(self, prompts: Sequence[Prompt], family: Family, scheduler: Any) -> None:
        """Find all words in all prompts before any work is done. Raises NoSuchWord."""
        self.alterations = [
            Alteration(item, [_positions(item.names, prompt, family) for prompt in prompts], scheduler)
            for item in self.interventions
        ]
        if self.relevancy is not None:
            labels = [[word.label for word in prompt.words if word.content] for prompt in prompts]
            words = [_positions(own, prompt, family)[0] for own, prompt in zip(labels, prompts, strict=True)]
            self.relevancies = RelevancyReader(self.relevancy, words)

    def due(self, step: int) -> bool:
        """Whether something is to run before this pass."""
        explained = self.relevancies is not None and self.relevancies.due(step)
        return explained or any(a.due(step) for a in self.alterations)

    def run(self, module: nn.Module, given: Arguments, rows: Sequence[Row], latents: Tensor, step: int) -> Arguments:
        """The denoiser's arguments as the pass shall find them; `latents` may be moved in place."""
        for alteration in self.alterations:
            if alteration.due(step):
                given = alteration.alter(module, given, rows, latents, step)
        if self.relevancies is not None and self.relevancies.due(step):
            self.relevancies.read(module, given, rows, step)
        return given

    @property
    def log(self) -> list[dict[str, Any]]:
        """What the interventions did, step by step."""
        return [entry for alteration in self.alterations for entry in alteration.log]


def arguments(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> Arguments:
    """A call's arguments by name."""
    return dict(inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments)


def _positions(names: Sequence[str], prompt: Prompt, family: Family) -> tuple[dict[str, tuple[int, ...]], int]:
    """Each word's positions in the sequence of text states, and the end token's."""
    encoder, start = next(iter(dictionary(prompt, family).starts.items()))
    positions = {name: tuple(start + i for i in prompt.columns(name, encoder)) for name in names}
    ends = prompt.columns("<end>", encoder)
    return positions, start + ends[0] if ends else start + prompt.lengths[encoder]
