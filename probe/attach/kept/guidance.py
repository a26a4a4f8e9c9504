"""Reads the guidance of each step: the branches' predictions, their difference, and what became of it.

All predictions are compared as noise (eps), whatever the denoiser predicts. cond_norm, uncond_norm (negative_norm with
a negative prompt): |eps| of each branch; difference_norm: |eps_cond - eps_uncond|; guided_norm: |eps| after guidance;
update_norm: |eps_guided - eps_cond|, how far guidance moved the step; update_ratio: |eps_guided| / |eps_cond|. In the
first step of a flow, where all is noise, eps is what the step starts from, whatever is predicted: norms of differences
are 0 there, and cosines are those of -x0.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vector_norm

from probe.attach.kept.guiders import FORMS, Combined, Form
from probe.attach.model.families import Family
from probe.attach.model.prediction import Level, level
from probe.attach.model.schedule import number, numbers
from probe.errors import RecordingError

Row = dict[str, Tensor]
APART = 0.05  # of its length, that what the scheduler is given may lie beside all combinations of the branches


@dataclass
class GuidanceReader:
    """Per step and picture: norms, cosines, a spatial map, and the latents before and after."""

    scheduler: Any
    outputs: dict[str, dict[int, Tensor]] = field(default_factory=dict)  # of this step: branch -> image -> output
    rows: list[Row] = field(default_factory=list)
    directions: list[Tensor | None] = field(default_factory=list)  # None where only one branch ran
    samples: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    branches: list[Row] = field(default_factory=list)  # the predicted x0 of each branch, where there are several
    timesteps: list[float] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    planned: Counter[float] = field(default_factory=Counter)  # how often the scheduler has each timestep
    told: bool = False  # whether the denoiser was told the scale
    combined: Combined | None = None  # what a guider combined in this step
    guiders: list[str] = field(default_factory=list)  # the classes of those that did
    form: Form | None = None  # what guiders combine, once there was a result to tell it by
    apart: tuple[Tensor, Tensor] | None = None  # of the first step: see `_apart`

    def saw(self, branch: str, image: int, output: Tensor) -> None:
        """One branch's raw output for one picture, in the step that is running."""
        self.outputs.setdefault(branch, {}).setdefault(image, output.detach())

    def combines(self, combined: Combined) -> None:
        """A guider names what it combines: that is what the branches said, whatever was seen before."""
        self.combined = combined
        if combined.guider not in self.guiders:
            self.guiders.append(combined.guider)

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
        """The scheduler is about to step: `guided` is what the branches were combined to.

        Raises RecordingError where the latents are of another shape than before, or the timestep is over.
        """
        if self.samples and sample.shape != self.samples[0].shape:
            raise RecordingError(
                f"the pipeline steps latents of {tuple(sample.shape)} after those of {tuple(self.samples[0].shape)}: "
                "these are not the steps of one generation. Record a pipeline that keeps the size and the number of "
                "its pictures, or each stage by itself"
            )
        now = number(timestep, self.scheduler.timesteps)
        self._count(now)
        noise = level(self.scheduler, timestep)
        guided = guided[:, : sample.shape[1]].detach()
        said = self._said(guided, noise, sample)
        said = {b: value for b, value in said.items() if value.shape == sample.shape and noise.kind != "trigflow"}
        if not self.rows and self.combined is None and len(said) > 1:
            self.apart = _apart(guided, list(said.values()), sample)
        every = torch.stack([guided, *said.values()])  # [1 + branch, image, ...]
        eps = noise.epsilon(every, sample)
        x0 = noise.x0(every if len(said) > 1 else every[:1], sample).half()
        self.levels.append(noise)
        delta = _delta(dict(zip(said, eps[1:], strict=True)))
        self.rows.append(_row(dict(zip(said, eps[1:], strict=True)), eps, delta))
        if noise.alpha == 0 and noise.kind != "epsilon":  # where all is noise, eps tells nothing of what was said
            delta = _delta(dict(zip(said, -noise.x0(every[1:], sample), strict=True)))
        self.directions.append(None if delta is None else delta.half())
        self.branches.append(dict(zip(said, x0[1:], strict=True)) if len(said) > 1 else {})
        self.samples.append(sample.detach().half())
        self.predicted.append(x0[0])
        self.timesteps.append(now)
        self.outputs, self.combined = {}, None

    def _said(self, guided: Tensor, noise: Level, sample: Tensor) -> dict[str, Tensor]:
        """What every branch said, as the scheduler would be given it."""
        if self.combined is None:
            return {b: _in_step(_stack(rows, sample.shape[1]), sample) for b, rows in self.outputs.items()}
        combined = self.combined.at(lambda x: _in_step(x[:, : sample.shape[1]], sample))
        form = self._form(combined, guided, noise, sample)
        return {} if form is None else {b: FORMS[form](value, noise, sample) for b, value in combined.branches.items()}

    def _form(self, combined: Combined, guided: Tensor, noise: Level, sample: Tensor) -> Form | None:
        """What guiders combine. Where all is 0, as in the first step of some, nothing is told of later steps."""
        form = self.form or combined.form(guided, noise, sample)
        if self.form is None and bool(combined.result.any()):
            self.form = form
        return form

    def _count(self, now: float) -> None:
        """Some schedulers have a timestep twice, none steps it more often than it has it."""
        if not self.timesteps:
            self.planned = Counter(numbers(self.scheduler.timesteps))
        if 0 < self.planned[now] <= self.timesteps.count(now):
            raise RecordingError(
                f"the pipeline steps timestep {now:g} once more than {type(self.scheduler).__name__} has it: it "
                "denoises windows of a larger picture, or parts of a film, one after another, and a map of one window "
                "is none of the picture. Record a picture that fits into one window, or a pipeline that denoises the "
                "whole at once"
            )

    def finish(self) -> None:
        """Compare every direction with the one before and with the last one, and leave out what was not said."""
        if self.apart is not None and _preconditioned(*self.apart):
            self.rows = [{"guided_norm": row["guided_norm"]} for row in self.rows]
            self.branches, self.directions = [{} for _ in self.rows], [None] * len(self.rows)
        known = [(row, way) for row, way in zip(self.rows, self.directions, strict=True) if way is not None]
        if not known:
            return
        last, before = _unit(known[-1][1]), torch.tensor(torch.nan)
        for row, direction in known:
            way = _unit(direction)
            row["cosine_previous"], row["cosine_final"] = (way * before).sum(1), (way * last).sum(1)
            before = way


def _row(eps: dict[str, Tensor], every: Tensor, delta: Tensor | None) -> Row:
    """The numbers of one step; `every` [1 + branch, image, ...] is the guided eps and those of the branches."""
    norms = vector_norm(every.flatten(2), dim=2)
    row: Row = {"guided_norm": norms[0]} | {f"{b}_norm": value for b, value in zip(eps, norms[1:], strict=True)}
    if "cond" in eps:
        row["update_norm"] = norm(every[0] - eps["cond"])
        row["update_ratio"] = row["guided_norm"] / row["cond_norm"].clamp_min(1e-12)
    if delta is not None:
        row["magnitude"] = vector_norm(delta, dim=1)
        row["difference_norm"] = norm(row["magnitude"])
    return row


def _delta(said: dict[str, Tensor]) -> Tensor | None:
    """The way from what the branch beside cond said to what cond did, where both ran."""
    other = said.get("uncond", said.get("negative"))
    return said["cond"] - other if "cond" in said and other is not None else None


def _apart(guided: Tensor, said: list[Tensor], sample: Tensor) -> tuple[Tensor, Tensor]:
    """[image]: how much of what the scheduler is given lies beside all combinations of what the branches said, as a
    share of its length, and beside those with the latents too.
    """
    g, *ways, x = (value.double().flatten(1) for value in (guided, *said, sample))
    without = _beside(g, ways)
    return without, _beside(g, [*ways, x])


def _beside(x: Tensor, ways: list[Tensor]) -> Tensor:
    """[image]: the share of rows that no combination of some directions gives, by Gram and Schmidt."""
    left, units = x, list[Tensor]()
    for way in ways:
        for unit in units:
            way = way - (way * unit).sum(1, keepdim=True) * unit
        units.append(F.normalize(way))
        left = left - (left * units[-1]).sum(1, keepdim=True) * units[-1]
    return vector_norm(left, dim=1) / vector_norm(x, dim=1).clamp_min(1e-12)


def _preconditioned(without: Tensor, beside: Tensor) -> bool:
    """Whether a pipeline mixes the latents into what the denoiser said before it guides, as Cosmos does (Karras et al.
    2022): then the branches' outputs are not what the scheduler would have been given.
    """
    return bool((without > APART).any() and (beside < without / 2).all())


def _stack(rows: dict[int, Tensor], channels: int) -> Tensor:
    """[image, channel, ...]; a learned variance behind the prediction is cut off."""
    return torch.stack([rows[i] for i in sorted(rows)])[:, :channels]


def _in_step(x: Tensor, sample: Tensor) -> Tensor:
    """The last frames of a film, as many as the scheduler is given: those before are a picture that it starts from."""
    return x[:, :, -sample.shape[2] :] if x.ndim == sample.ndim == 5 else x


def norm(x: Tensor) -> Tensor:
    """[image]: L2 over all else."""
    return vector_norm(x.float().flatten(1), dim=1)


def _unit(x: Tensor) -> Tensor:
    """[image, all else], of length 1, or 0 where all is 0."""
    return F.normalize(x.float().flatten(1), dim=1)
