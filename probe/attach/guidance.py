"""Reads the guidance of each step: the branches' predictions, their difference, and what became of it."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.attach.families import Family
from probe.attach.prediction import level

Row = dict[str, Tensor]


@dataclass
class GuidanceReader:
    """Per step and picture: norms, cosines, a spatial map, and the latents before and after."""

    scheduler: Any
    outputs: dict[str, dict[int, Tensor]] = field(
        default_factory=dict
    )  # of the running step: branch -> image -> output
    rows: list[Row] = field(default_factory=list)
    directions: list[Tensor | None] = field(default_factory=list)  # None where only one branch ran
    samples: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    timesteps: list[float] = field(default_factory=list)
    last: Tensor | None = None

    def saw(self, branch: str, image: int, output: Tensor) -> None:
        """One branch's raw output for one picture, in the step that is running."""
        self.outputs.setdefault(branch, {}).setdefault(image, output.detach())

    def turned(self, family: Family, guided: Tensor) -> Family:
        """A family whose sign makes the branches' predictions agree with what the scheduler is given."""
        found = self.outputs.get("cond", {})
        if not found:
            return family
        cond = _stack(found, guided.shape[1])
        if cond.shape != guided.shape or float((cond.float() * guided.float()).sum()) >= 0:
            return family
        self.outputs = {b: {i: -value for i, value in rows.items()} for b, rows in self.outputs.items()}
        return replace(family, sign=-family.sign)

    def stepped(self, guided: Tensor, timestep: Any, sample: Tensor) -> None:
        """The scheduler is about to step: `guided` is what the branches were combined to."""
        noise = level(self.scheduler, timestep)
        channels = sample.shape[1]
        eps = {b: noise.epsilon(_stack(rows, channels), sample) for b, rows in self.outputs.items()}
        guided = guided[:, :channels].detach()
        row: Row = {"guided_norm": _norm(noise.epsilon(guided, sample))}
        row |= {f"{branch}_norm": _norm(value) for branch, value in eps.items() if value.shape == sample.shape}
        self._difference(row, eps, sample)
        self.rows.append(row)
        self.samples.append(sample.detach().half())
        self.predicted.append(noise.x0(guided, sample).half())
        self.timesteps.append(float(torch.as_tensor(timestep).flatten()[0]))
        self.outputs = {}

    def _difference(self, row: Row, eps: dict[str, Tensor], sample: Tensor) -> None:
        """delta = eps_cond - eps_uncond, where both branches ran for every picture."""
        other = eps.get("uncond", eps.get("negative"))
        if other is None or "cond" not in eps or eps["cond"].shape != other.shape or other.shape != sample.shape:
            self.directions.append(None)
            return
        delta = eps["cond"] - other
        row["difference_norm"] = _norm(delta)
        row["magnitude"] = delta.norm(dim=1)
        previous = next((direction for direction in self.directions[::-1] if direction is not None), None)
        row["cosine_previous"] = torch.full((len(delta),), torch.nan) if previous is None else _cosine(delta, previous)
        self.directions.append(delta.half())

    def finish(self) -> None:
        """Compare every direction with the last one."""
        last = next((direction for direction in self.directions[::-1] if direction is not None), None)
        for row, direction in zip(self.rows, self.directions, strict=True):
            if direction is not None and last is not None:
                row["cosine_final"] = _cosine(direction, last)


def _stack(rows: dict[int, Tensor], channels: int) -> Tensor:
    """[image, channel, ...]; a learned variance behind the prediction is cut off."""
    return torch.stack([rows[i] for i in sorted(rows)])[:, :channels]


def _norm(x: Tensor) -> Tensor:
    """[image]: L2 over all else."""
    return x.float().flatten(1).norm(dim=1)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(x.float().flatten(1), y.float().flatten(1), dim=1)
