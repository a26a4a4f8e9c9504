"""What runs beside the pipeline's own passes: interventions that move latents, and inquiries at chosen steps."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from torch import Tensor, nn

from probe.attach.alter import Alteration, warn_of
from probe.attach.attention import Pass
from probe.attach.families import Family
from probe.attach.inquiry import Answer, Inquiry, Scene
from probe.attach.placed import everywhere, place
from probe.intervention import Intervention, LatentIntervention
from probe.words import Prompt

Arguments = dict[str, Any]


@dataclass
class Asides:
    """The side passes of one generation."""

    interventions: Sequence[Intervention] = ()
    inquiries: Sequence[Inquiry] = ()
    alterations: list[Alteration] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def plan(self, prompts: Sequence[Prompt], family: Family, pipe: Any, told: Arguments) -> None:
        """Find all words in all prompts before any work is done; `told`: see `Scene`. Raises NoSuchWord, BadInput."""
        self.alterations = [
            Alteration(item, [place(item.names, p, family, item.encoder) for p in prompts], pipe.scheduler, family)
            for item in self.interventions
            if isinstance(item, LatentIntervention)
        ]
        for alteration in self.alterations:
            warn_of(pipe.scheduler, alteration.intervention)
        if self.inquiries:
            labels = [[word.label for word in prompt.words if word.content] for prompt in prompts]
            words = [everywhere(own, prompt, family) for own, prompt in zip(labels, prompts, strict=True)]
            self.answers = [item.begin(Scene(pipe, family, prompts, words, told)) for item in self.inquiries]

    def due(self, step: int) -> bool:
        """Whether something is to run before this pass."""
        return any(aside.due(step) for aside in (*self.answers, *self.alterations))

    def run(self, module: nn.Module, given: Arguments, current: Pass, latents: Tensor) -> Arguments:
        """The denoiser's arguments as the pass shall find them; `latents` may be moved in place."""
        for alteration in self.alterations:
            if alteration.due(current.step):
                given = alteration.alter(module, given, current, latents)
        for answer in self.answers:
            if answer.due(current.step):
                answer.read(module, given, current.rows, current.step)
        return given

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """What the inquiries found."""
        return {path: node for answer in self.answers for path, node in answer.nodes().items()}

    @property
    def log(self) -> list[dict[str, Any]]:
        """What the interventions did, step by step."""
        return [entry for alteration in self.alterations for entry in alteration.log]


def arguments(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> Arguments:
    """A call's arguments by name."""
    return dict(inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments)
