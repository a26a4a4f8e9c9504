"""One picture's conditional pass, run again beside the pipeline's own: with other text states, or other latents."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.asked.controlnets import Lead
from probe.attach.asked.findings import Findings
from probe.attach.asked.inquiry import Answer, Scene
from probe.attach.given import SAMPLES, STATES
from probe.attach.model.families import Family, denoisers
from probe.attach.model.layout import Plane, plane, unpacked
from probe.attach.text.encode import masked
from probe.attach.text.rows import Row
from probe.errors import BadInput

Arguments = dict[str, Any]
POOLED = "pooled_projections"
OTHERS = ("uncond", "negative")


@dataclass(frozen=True)
class Beside:
    """The conditional row of one picture in the denoiser's batch; `predict` runs it with something else put in."""

    module: nn.Module
    family: Family
    given: Arguments
    rows: Sequence[Row]
    index: int
    leads: Mapping[str, Lead] = field(default_factory=dict)

    @property
    def row(self) -> Row:
        """Whose row it is."""
        return self.rows[self.index]

    @property
    def states(self) -> Tensor:
        """[t, c] the text states."""
        return self._tensor(STATES)[1][self.index]

    @property
    def sample(self) -> Tensor:
        """The latents as the denoiser is given them, without the batch."""
        return self._tensor(SAMPLES)[1][self.index]

    @property
    def plane(self) -> Plane:
        """The cells of the latents."""
        return plane(self.given, self._tensor(SAMPLES)[1], self.family)

    def predict(
        self,
        states: Tensor | None = None,
        *,
        sample: Tensor | None = None,
        pooled: Tensor | None = None,
        masks: Sequence[Sequence[Tensor]] = (),
    ) -> Tensor:
        """[n, c, y, x] the denoiser's output for n text states [n, t, c], n latents, or both; all else as it was.

        ControlNets are asked again with the same, as they read text and latents too.

        `masks` are those of each text, see `Text`; none leaves the prompt's. The frames of a film count as channels.
        """
        count = next((len(given) for given in (states, sample) if given is not None), 1)

        def told(arguments: Arguments) -> Arguments:
            found = _picked(arguments, self.index, len(self.rows), count)
            for names, value in ((STATES, states), (SAMPLES, sample)):
                own = next((name for name in names if isinstance(found.get(name), Tensor)), None)
                if value is not None and own is not None:
                    found[own] = value
            for row, own in enumerate(masks):
                found = masked(found, [row], own)
            return found if pooled is None else _with_pooled(found, pooled)

        given = told(self.given)
        for lead in self.leads.values():
            given |= lead.led(self.given, told(lead.given))
        return self._run(given)

    def framed(self, output: Tensor) -> Tensor:
        """[..., c, y, x] as `predict` gives it, of films [..., c, frame, y, x]."""
        frames = self.plane.frames
        return output if frames == 1 else output.unflatten(-3, (-1, frames))

    @torch.no_grad()
    def other(self) -> Tensor | None:
        """[c, y, x] what the other branch says about the same picture; None where it is not in this batch."""
        index = self._beside
        return None if index is None else self._run(_picked(self.given, index, len(self.rows), 1))[0]

    @property
    def other_states(self) -> Tensor | None:
        """[t, c] the text states of the other branch, where it is in this batch."""
        return None if self._beside is None else self._tensor(STATES)[1][self._beside]

    @property
    def _beside(self) -> int | None:
        """The row of the other branch for the same picture."""
        found = (i for i, r in enumerate(self.rows) if r.branch in OTHERS and r.image == self.row.image)
        return next(found, None)

    def _run(self, given: Arguments) -> Tensor:
        output = self.module.forward(**given)
        value = output[0] if isinstance(output, tuple | list) else output.sample
        sample = given[self._tensor(SAMPLES)[0]]
        where = plane(given, sample, self.family)
        channels = unpacked(sample[:1], where, self.family).shape[1]
        return unpacked(value, where, self.family)[:, :channels].flatten(1, -3).float()

    def _tensor(self, names: Sequence[str]) -> tuple[str, Tensor]:
        """An argument's name and value, one row a picture. Raises BadInput where rows are laid out otherwise."""
        for name in names:
            value = self.given.get(name)
            if isinstance(value, Tensor) and value.shape[0] == len(self.rows):
                return name, value
        raise BadInput(
            f"{self.family.name} passes its denoiser no tensor {' or '.join(names)} with one row per picture, so its "
            "pass cannot be run again with other text; this works for U-Nets and for joint denoisers of pictures"
        )


def conditional(
    module: nn.Module,
    given: Arguments,
    rows: Sequence[Row],
    family: Family,
    leads: Mapping[str, Lead] | None = None,
) -> Iterator[Beside]:
    """The conditional rows of a batch, and what led its pass."""
    for index, row in enumerate(rows):
        if row.branch == "cond":
            yield Beside(module, family, given, rows, index, leads or {})


def _picked(given: Mapping[str, Any], index: int, rows: int, count: int) -> Arguments:
    """The arguments of one row, `count` times; what does not run over the batch stays as it is."""
    return {name: _pick(value, index, rows, count) for name, value in given.items()}


def _pick(value: Any, index: int, rows: int, count: int) -> Any:
    if isinstance(value, Tensor):
        runs = value.ndim > 0 and len(value) == rows
        return value[index : index + 1].repeat_interleave(count, 0) if runs else value
    if isinstance(value, dict):
        return _picked(value, index, rows, count)
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):  # a tensor an adapter
        return type(value)(_pick(item, index, rows, count) for item in value)
    runs = isinstance(value, list) and len(value) == rows and not isinstance(value[0], int | float)
    return [value[index]] * count if runs else value  # numbers are scales, of several ControlNets


def _with_pooled(given: Arguments, pooled: Tensor) -> Arguments:
    """The arguments with other pooled text states, where the denoiser is given any."""
    added = given.get("added_cond_kwargs") or {}
    if "text_embeds" in added:
        return given | {"added_cond_kwargs": added | {"text_embeds": pooled}}
    return given | {POOLED: pooled} if POOLED in given else given


@dataclass
class Reader(Answer):
    """Looks at every conditional row in the first pass that has one, at each step that is asked for."""

    scene: Scene
    wants: Callable[[int], bool]
    findings: Findings = field(default_factory=Findings, kw_only=True)
    _done: set[int] = field(default_factory=set, kw_only=True)

    def due(self, step: int) -> bool:
        """Whether this step is asked for and was not read yet."""
        return self.wants(step) and step not in self._done

    def read(self, module: nn.Module, given: Arguments, rows: Sequence[Row], step: int) -> None:
        """Look at each picture; a pass without conditional rows (the other branch's own) is let by."""
        for beside in conditional(module, given, rows, self.scene.family, self.scene.leads):
            self.look(beside, step)
            self._done.add(step)

    def site(self, beside: Beside, path: str) -> str:
        """A module's path as a trace has it: below the pipeline's name of the denoiser."""
        names = (name for name, module in denoisers(self.scene.pipe).items() if module is beside.module)
        return ".".join([*islice(names, 1), path])

    @abstractmethod
    def look(self, beside: Beside, step: int) -> None:
        """Find out about one picture at one step."""


def check_text(scene: Scene, name: str) -> None:
    """Raises BadInput where the denoiser reads no text, or where it is not known which columns are words."""
    family = scene.family
    if family.text not in ("cross", "first", "last") or family.further:
        raise BadInput(f"{name} needs the columns of words in one sequence of text states; {family.name} has none such")
