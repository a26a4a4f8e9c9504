"""Takes relevancy maps at chosen steps of a generation, each step on its own, so memory is bounded by one step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.attach.alter import arguments_of_row, name_of
from probe.attach.inquiry import Answer, Inquiry, Scene
from probe.attach.relevance import relevance
from probe.attach.rows import Row
from probe.attach.take import SAMPLES, STATES
from probe.axes import RELEVANCY
from probe.errors import BadInput

Box = tuple[float, float, float, float]


class Relevancy(Inquiry):
    """Which word each cell's output rests on (`probe.relevancy` reads the maps).

    `target`: "guidance" (half the squared norm of conditional minus unconditional output: what the prompt adds) or
    "output" (half the squared norm of the conditional output). `box`: left, top, right, bottom as shares of the
    picture; None is all of it.
    """

    target: Literal["guidance", "output"] = "guidance"
    box: Box | None = None

    def begin(self, scene: Scene) -> Answer:
        return RelevancyReader(self, scene.words)


@dataclass
class RelevancyReader(Answer):
    """The maps of one generation: step -> image -> [word, y, x]."""

    request: Relevancy
    words: Sequence[Mapping[str, tuple[int, ...]]]  # per prompt: label -> positions in the text states
    maps: dict[int, dict[int, Tensor]] = field(default_factory=dict)

    def due(self, step: int) -> bool:
        """Whether this is the first pass of a step that is to be explained."""
        return self.request.wants(step) and step not in self.maps

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """Relevancy of the words at the explained steps, for the first prompt's pictures."""
        if not self.maps:
            return {}
        rows = [torch.stack([images[i] for i in sorted(images)]) for images in self.maps.values()]
        values = torch.stack(rows).float().cpu().numpy()  # [step, image, word, y, x]
        coords = {"step": np.array(list(self.maps)), "word": list(self.words[0])}
        attributes = {"target": self.request.target, "box": list(self.request.box or (0.0, 0.0, 1.0, 1.0))}
        return {"/relevancy": xr.Dataset({"relevancy": (RELEVANCY, values, attributes)}, coords=coords)}

    def read(self, module: nn.Module, given: dict[str, Any], rows: Sequence[Row], step: int) -> None:
        """Explain one step for every picture."""
        sample, states = name_of(given, SAMPLES), name_of(given, STATES)
        self.maps[step] = {}
        for i, row in enumerate(rows):
            if row.branch != "cond":
                continue
            single = arguments_of_row(given, i, len(rows))
            other = self._other(module, given, rows, row)
            R = relevance(module, single, sample, states, lambda out, other=other: self._scalar(out, other))
            height, width = given[sample].shape[-2:]
            planes = [R[:, list(positions)].sum(1) for positions in self.words[row.prompt].values()]
            self.maps[step][row.image] = torch.stack(planes).unflatten(1, (height, width))

    @torch.no_grad()
    def _other(self, module: nn.Module, given: dict[str, Any], rows: Sequence[Row], row: Row) -> Tensor | None:
        """The other branch's output for the same picture."""
        if self.request.target == "output":
            return None
        found = [i for i, r in enumerate(rows) if r.branch in ("uncond", "negative") and r.image == row.image]
        if not found:
            raise BadInput(
                "relevancy of the guidance needs both branches in one batch, and this run has one; "
                "ask for Relevancy(target='output')"
            )
        output = module.forward(**arguments_of_row(given, found[0], len(rows)))
        return output[0] if isinstance(output, tuple | list) else output.sample

    def _scalar(self, output: Tensor, other: Tensor | None) -> Tensor:
        difference = output if other is None else output - other
        return (self._inside(difference) ** 2).sum() / 2

    def _inside(self, plane: Tensor) -> Tensor:
        if self.request.box is None:
            return plane
        left, top, right, bottom = self.request.box
        height, width = plane.shape[-2:]
        y, x = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
        inside = plane[..., y, x]
        if inside.numel() == 0:
            raise BadInput(f"the box {self.request.box} holds no cell of {height} x {width} latents; make it larger")
        return inside
