"""Moves the latents before a step, as an intervention asks; the pipeline's own loop goes on with what it finds.

At the first pass of a step the pipeline's latents are optimised, written back into the very tensor that the pipeline
holds, and put into the denoiser's input. With strength 0 nothing is written, so the picture stays the same to the bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.attention import Row
from probe.attach.families import grid_of
from probe.attach.gradient import GradientPass, without_weight_gradients
from probe.attach.take import SAMPLES, STATES
from probe.errors import BadInput, NoMatch, RecordingError
from probe.intervention import LatentIntervention, Maps, Score

CELLS = 256  # the papers' 16 x 16

Arguments = dict[str, Any]


@dataclass
class Alteration:
    """One intervention at work on one generation. `words` has, per prompt, each subject's positions and the end's."""

    intervention: LatentIntervention
    words: Sequence[tuple[Mapping[str, tuple[int, ...]], int]]
    scheduler: Any
    log: list[dict[str, Any]] = field(default_factory=list)
    _done: int = -1
    _pass: GradientPass | None = None
    _grid: tuple[int, int] = (0, 0)
    _previous: dict[int, Maps] = field(default_factory=dict)

    def due(self, step: int) -> bool:
        """Whether this is the first pass of a step that is to be altered."""
        early = step < self.intervention.max_steps or step in self.intervention.thresholds
        return self.intervention.strength != 0 and early and step != self._done

    def alter(self, module: nn.Module, given: Arguments, rows: Sequence[Row], latents: Tensor, step: int) -> Arguments:
        """The denoiser's arguments with moved latents; `latents` is moved in place."""
        self._done = step
        moved = []
        with torch.enable_grad(), without_weight_gradients(module):
            for image in range(len(latents)):
                row = next(i for i, r in enumerate(rows) if r.branch == "cond" and r.image == image)
                single = arguments_of_row(given, row, len(rows))
                moved.append(self._optimise(module, single, latents[image : image + 1].detach(), rows[row], step))
        latents.copy_(torch.cat(moved))
        return given | {name_of(given, SAMPLES): self._replaced(given[name_of(given, SAMPLES)], latents, rows, step)}

    def _optimise(self, module: nn.Module, given: Arguments, z: Tensor, row: Row, step: int) -> Tensor:
        """Refine until the target is reached, then one update; each forward pass is used once."""
        alpha = self.intervention.step_size(step, len(self.scheduler.timesteps))
        target, start, losses = self.intervention.target(step), z, []
        z, score = self._forward(module, given, z, row, step)
        losses.append(score)
        met = target is None or _number(score.loss) <= target
        count = 0
        while not met:
            met = target is None or _number(score.loss) <= target or count + 1 >= self.intervention.max_refinements
            z, score = self._forward(module, given, self._update(z, score, alpha), row, step)
            losses.append(score)
            count += 1
        if step < self.intervention.max_steps:
            z = self._update(z, score, alpha)
        self._note(step, row, losses, float((z - start).detach().norm()))
        return z.detach()

    def _forward(self, module: nn.Module, given: Arguments, z: Tensor, row: Row, step: int) -> tuple[Tensor, Score]:
        z = z.detach().requires_grad_(True)
        x = self._scaled(given[name_of(given, SAMPLES)], z, step)
        if self._pass is None:
            self._survey(module, given)
        assert self._pass is not None
        A = self._pass.maps((), given | {name_of(given, SAMPLES): x})[0].unflatten(0, self._grid)  # [y, x, token]
        positions, end = self.words[row.prompt]
        maps = Maps(A, positions, end, self._previous.get(row.image))
        score = self.intervention.score(maps)
        self._previous[row.image] = Maps(A.detach(), positions, end)
        if not torch.isfinite(torch.as_tensor(score.loss)):
            raise RecordingError(
                f"{self.intervention.method}: the loss is {_number(score.loss)} at step {step}; "
                "lower scale_factor, or run the denoiser in float32"
            )
        return z, score

    def _update(self, z: Tensor, score: Score, alpha: float) -> Tensor:
        """z - alpha * dL/dz; a loss of zero, or one without a gradient, is no step."""
        if not isinstance(score.loss, Tensor) or not score.loss.requires_grad or _number(score.loss) == 0:
            return z
        (gradient,) = torch.autograd.grad(score.loss, z)
        return z - alpha * gradient

    def _survey(self, module: nn.Module, given: Arguments) -> None:
        """Learn the layers once and choose the grid of the loss."""
        self._pass = GradientPass(_Bare(module), given[name_of(given, STATES)].shape[1])
        layers = self._pass.survey((), given)
        height, width = given[name_of(given, SAMPLES)].shape[-2:]
        grids = {layer.cells: grid_of(layer.cells, height, width) for layer in layers}
        known = {cells: grid for cells, grid in grids.items() if grid is not None}
        wanted = self.intervention.resolution
        if wanted is None and known:
            wanted = known[min(known, key=lambda cells: abs(torch.log2(torch.tensor(cells / CELLS)).item()))]
        if wanted is None or wanted not in known.values():
            listed = ", ".join(f"{h} x {w}" for h, w in dict.fromkeys(known.values())) or "none"
            raise NoMatch(
                f"no cross-attention has a grid of {wanted}; this model has {listed} (resolution=(rows, columns))"
            )
        self._grid = wanted
        self._pass.choose(prod(wanted))

    def _scaled(self, like: Tensor, z: Tensor, step: int) -> Tensor:
        """The denoiser's input for latents z: scaled as the pipeline does, with the channels that it adds."""
        x = z
        if hasattr(self.scheduler, "scale_model_input"):
            x = self.scheduler.scale_model_input(z, self.scheduler.timesteps[step])
        x = x.to(like.dtype)
        return x if like.shape[1] == x.shape[1] else torch.cat([x, like[:, x.shape[1] :]], dim=1)

    def _replaced(self, x: Tensor, latents: Tensor, rows: Sequence[Row], step: int) -> Tensor:
        parts = [self._scaled(x[i : i + 1], latents[r.image : r.image + 1], step) for i, r in enumerate(rows)]
        return torch.cat(parts)

    def _note(self, step: int, row: Row, losses: Sequence[Score], shift: float) -> None:
        self.log.append(
            {
                "method": self.intervention.method,
                "step": step,
                "image": row.image,
                "losses": [_number(score.loss) for score in losses],
                "subjects": [dict(score.subjects) for score in losses],
                "shift": shift,
            }
        )


class _Bare(nn.Module):
    """A denoiser without the hooks on itself: a gradient pass is not a pass of the pipeline."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.inner = [module]  # in a list, so that it is not registered and keeps its own name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner[0].forward(*args, **kwargs)

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner[0].named_modules(*args, **kwargs)


def name_of(given: Arguments, names: Sequence[str]) -> str:
    """The name that this denoiser has for its latents or text states."""
    return next(name for name in names if isinstance(given.get(name), Tensor))


def arguments_of_row(given: Arguments, row: int, rows: int) -> Arguments:
    """The arguments of one row: of whatever runs over the batch, that row."""
    return {name: _of_row(value, row, rows) for name, value in given.items()}


def _of_row(value: Any, row: int, rows: int) -> Any:
    if isinstance(value, Tensor):
        return value[row : row + 1] if value.ndim > 0 and value.shape[0] == rows else value
    return arguments_of_row(value, row, rows) if isinstance(value, dict) else value


def _number(loss: Any) -> float:
    return float(loss.detach()) if isinstance(loss, Tensor) else float(loss)


def check_subjects(intervention: LatentIntervention) -> None:
    """An intervention without subjects has nothing to nurse."""
    if not intervention.subjects:
        raise BadInput(
            f"{intervention.method} has no subjects; name them: {intervention.method}(subjects=('cat', 'dog'))"
        )
