"""Output interventions at work: another value for what a module gave, in the rows of the prompt."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probe.attach.kept.outputs import RUN, choose, laid_out, tensors
from probe.attach.kept.passes import Pass
from probe.errors import BadInput, MissingReadings
from probe.intervention import Given, Intervention, OutputIntervention

PLACE = re.compile(r"-(\d+)$")  # of one of the values that a module returns, behind its name


@dataclass
class Module:
    """One output that one intervention changes. `name` is the output's in a trace."""

    item: OutputIntervention
    name: str
    path: str
    place: int
    module: nn.Module
    gave: bool = False  # in this pass

    def change(self, output: Any, current: Pass, steps: int) -> Any:
        """What the module gives from now on: its own output, to the bit, where nothing is changed."""
        value = dict(tensors(output)).get(self.place)
        laid = None if value is None else laid_out(value.clone(), current)  # views of a copy
        if value is None or laid is None:
            return output
        self.gave, rows, changed = True, laid[0], False
        for own, row in zip(rows, current.rows, strict=True):
            if row.branch == "cond":
                new = self.item.change(Given(self.name, own, laid[1], current.step, steps, row.image))
                if new is not None:
                    own.copy_(new)
                    changed = True
        return with_tensor(output, self.place, rows.reshape(value.shape)) if changed else output

    def check(self, current: Pass) -> None:
        """A pass has ended. Raises MissingReadings where the module gave nothing to change."""
        gave, self.gave = self.gave, False
        if not gave and self.path.partition(".")[0] == current.denoiser:
            raise MissingReadings(
                f"{self.item.method} found no tensor with a row for each picture in {self.name} "
                f"({type(self.module).__name__}), or it did not run; take the modules inside of it, or those around it"
            )


def changed_modules(interventions: Sequence[Intervention], denoisers: Mapping[str, nn.Module]) -> tuple[Module, ...]:
    """Every output that is changed. Raises NoMatch for absent modules, BadInput for those that run twice."""
    items = [item for item in interventions if isinstance(item, OutputIntervention)]
    return tuple(_module(item, name, denoisers) for item in items for name in item.modules)


def _module(item: OutputIntervention, name: str, denoisers: Mapping[str, nn.Module]) -> Module:
    if RUN in name:
        raise BadInput(
            f"{item.method} cannot tell the runs of a module apart, as {name} asks; leave it out with sites="
        )
    path, place, *_ = (*PLACE.split(name), "0")
    return Module(item, name, path, int(place), choose(denoisers, [path])[0].module)


def with_tensor(output: Any, place: int, value: Tensor) -> Any:
    """What a module returned, with another tensor at a place."""
    if isinstance(output, Tensor):
        return value
    if isinstance(output, Mapping):
        return type(output)(**{**output, list(output)[place]: value})
    return type(output)([*output[:place], value, *output[place + 1 :]])
