"""Moves the latents before a step, as an intervention asks; the pipeline's own loop goes on with what it finds.

At the first pass of a step the pipeline's latents are optimised, written back into the very tensor that the pipeline
holds, and put into the denoiser's input. With strength 0 nothing is written, so the picture stays the same to the bit.
When the generation is over, a tensor that somebody else holds too gets its own values back.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.change.gradient import GradientPass, without_weight_gradients
from probe.attach.change.noise import better_noise
from probe.attach.given import SAMPLES
from probe.attach.kept.passes import Pass
from probe.attach.model.families import Family
from probe.attach.model.prediction import Level, level
from probe.attach.text.columns import Placed
from probe.attach.text.rows import Row
from probe.errors import BadInput, Diverged, RecordingError
from probe.intervention import LatentIntervention, Maps, Score

SCALES = (2.0**14, 2.0**7, 1.0)  # of the loss, so that a gradient in half precision neither vanishes nor overflows

REPLACED = (
    "the latents at step {} are not those that the scheduler gave: the pipeline or a callback replaces them after each "
    "step (as inpainting does), so they cannot be moved from here; let the callback return what it was given"
)

Arguments = dict[str, Any]


@dataclass
class Alteration:
    """One intervention at work on one generation. `words` says, per prompt, where each subject is."""

    intervention: LatentIntervention
    words: Sequence[Placed]
    scheduler: Any
    family: Family
    log: list[dict[str, Any]] = field(default_factory=list)
    moved: Tensor | None = None  # the tensor that was written to, until the scheduler steps
    _done: int = -1
    _pass: GradientPass | None = None
    _seen: dict[int, list[Score]] = field(default_factory=dict)  # by picture: the last score of each step
    _latest: dict[int, Maps] = field(default_factory=dict)  # of this step
    _before: dict[int, Maps] = field(default_factory=dict)  # of the step before
    _past: dict[int, Tensor] = field(default_factory=dict)
    _written: list[tuple[weakref.ref[Tensor], Tensor]] = field(default_factory=list)  # tensors, and what they held

    def due(self, step: int) -> bool:
        """Whether this is the first pass of a step that is to be altered."""
        early = step < self.intervention.max_steps or step in self.intervention.thresholds
        return self.intervention.strength != 0 and early and step != self._done

    def alter(self, module: nn.Module, given: Arguments, current: Pass, latents: Tensor) -> Arguments:
        """The denoiser's arguments with moved latents; `latents` is moved in place, and what the denoiser is given of
        them. Raises Diverged.
        """
        if not any(row.branch == "cond" for row in current.rows):
            return given
        if self._done < 0:
            self.intervention.check_run(len(self.scheduler.timesteps))
        self._done = current.step
        self._begin_step()
        self._check(given, current, latents)
        moved = []
        with torch.enable_grad(), without_weight_gradients(module):
            for image in range(len(latents)):
                scene = self._scene(module, given, current, image)
                moved.append(self._image(scene, latents[image : image + 1].detach()))
        if all(z is None for z in moved):
            return given
        self._written.append((weakref.ref(latents), latents.clone()))
        for own, z in zip(latents, moved, strict=True):
            if z is not None:
                own.copy_(z[0])
        self.moved = latents
        x = given[name_of(given, SAMPLES)]
        parts = [
            self._scaled(x[i : i + 1], latents[r.image : r.image + 1], current.step) for i, r in enumerate(current.rows)
        ]
        whole = torch.cat(parts)
        if 0 not in x.stride():  # guiders give this very tensor to one branch after another
            x.copy_(whole)
        return given | {name_of(given, SAMPLES): whole}

    def _scene(self, module: nn.Module, given: Arguments, current: Pass, image: int) -> "_Scene":
        """The picture's own row of the prompt."""
        rows = current.rows
        i = next((i for i, r in enumerate(rows) if r.branch == "cond" and r.image == image), None)
        if i is None:
            raise RecordingError(f"no row of the prompt for picture {image} in this pass; record one branch a call")
        one = replace(current, rows=(rows[i],), texts=(current.texts[i],))
        return _Scene(module, arguments_of_row(given, i, len(rows)), one, rows[i])

    def _image(self, scene: "_Scene", z: Tensor) -> Tensor | None:
        """The moved latents of one picture; None where nothing is moved."""
        acting = self.intervention.now(scene.step, self._seen.setdefault(scene.row.image, []))
        if acting is None:
            return None
        if acting.strength == 0:
            with torch.no_grad():
                _, score = self._forward(acting, scene, z)
            self._note(acting, scene, [settled(score)], 0.0, z)
            return None
        if acting.search is not None and scene.step == 0:
            return self._optimise(acting, scene, self._sought(acting, scene, z), z)
        return self._optimise(acting, scene, z, z)

    def _sought(self, acting: LatentIntervention, scene: "_Scene", z: Tensor) -> Tensor:
        """A better noise to start from."""
        sigma = float(getattr(self.scheduler, "init_noise_sigma", 1.0))

        def look(noise: Tensor) -> Score:
            return acting.noise_score(self._maps(acting, scene, noise * sigma))

        found, losses = better_noise(look, z.float() / sigma, acting)
        self.log.append({"method": acting.method, "step": 0, "image": scene.row.image, "search": losses})
        return torch.lerp(z.float(), found * sigma, acting.strength)

    def _optimise(self, acting: LatentIntervention, scene: "_Scene", z: Tensor, start: Tensor) -> Tensor:
        """Refine until the target is met, then one update; each forward pass is used once."""
        times = self.scheduler.timesteps
        alpha = acting.step_size(scene.step, len(times)) * gain(acting, level(self.scheduler, times[scene.step]))
        scores = list[Score]()
        try:
            z, score = self._forward(acting, scene, z)
            scores.append(settled(score))
            while len(scores) <= acting.max_refinements and not acting.refined(scene.step, scores):
                better = self._update(acting, z, score, alpha)
                if better is z:  # no gradient leads further
                    break
                z, score = self._forward(acting, scene, better)
                scores.append(settled(score))
            if acting.finishes(scene.step, scores):
                z = self._update(acting, z, score, alpha)
        finally:
            self._note(acting, scene, scores, float((z.detach() - start).norm()), start)
        return z.detach()

    def _forward(self, acting: LatentIntervention, scene: "_Scene", z: Tensor) -> tuple[Tensor, Score]:
        z = z.detach().float().requires_grad_(torch.is_grad_enabled())
        maps = self._maps(acting, scene, z)
        score = acting.score(maps)
        self._latest[scene.row.image] = replace(maps, A=maps.A.detach(), previous=None, past=None, S=None)
        if not torch.isfinite(torch.as_tensor(score.value)):
            raise diverged(acting, scene.step, f"the loss is {score.value}")
        return z, score

    def _maps(self, acting: LatentIntervention, scene: "_Scene", z: Tensor) -> Maps:
        name = name_of(scene.given, SAMPLES)
        if self._pass is None:
            self._pass = GradientPass(scene.module, self.family, scene.current)
            self._pass.survey(scene.given)
            self._pass.choose(acting.resolution, acting.sites, cells=acting.looks_at_cells)
        placed, image = self.words[scene.row.prompt], scene.row.image
        self._pass.current = scene.current
        x = self._scaled(scene.given[name], z, scene.step)
        A, S = self._pass.maps(scene.given | {name: x}, placed.columns)
        before, past = self._before.get(image), self._past.get(image)
        return Maps(A, placed.positions, placed.end, before, placed.first, past, S)

    def _begin_step(self) -> None:
        """What was the latest map of each picture is now that of a step before."""
        for image, maps in self._latest.items():
            past = self._past.get(image)
            self._past[image] = maps.A if past is None else torch.lerp(maps.A, past, self.intervention.memory)
        self._before |= self._latest
        self._latest.clear()

    def _update(self, acting: LatentIntervention, z: Tensor, score: Score, alpha: float) -> Tensor:
        """z - alpha * dL/dz; a loss of zero, or one without a gradient, is no step."""
        if not isinstance(score.loss, Tensor) or not score.loss.requires_grad or score.value == 0:
            return z
        assert self._pass is not None
        half = next(self._pass.module.parameters()).dtype == torch.float16
        for scale in SCALES if half else SCALES[-1:]:
            (gradient,) = torch.autograd.grad(score.loss * scale, z, retain_graph=scale != SCALES[-1])
            if bool(torch.isfinite(gradient).all()):
                return z - alpha * gradient / scale
        raise diverged(acting, self._done, "the gradient is not finite")

    def give_back(self) -> None:
        """The generation is over: who still holds a tensor that was written to, finds in it what it held."""
        for held, own in self._written:
            tensor = held()
            if tensor is not None:
                tensor.copy_(own)
        self._written.clear()

    def stepping(self, sample: Any) -> None:
        """The scheduler is about to step: with the tensor that was written to."""
        moved, self.moved = self.moved, None
        if moved is not None and isinstance(sample, Tensor) and sample.data_ptr() != moved.data_ptr():
            raise RecordingError(REPLACED.format(self._done))

    def _check(self, given: Arguments, current: Pass, latents: Tensor) -> None:
        """The latents at hand must be those that the denoiser is about to see."""
        if current.plane.frames > 1:
            raise BadInput(f"{self.intervention.method} nurses images, not videos of {current.plane.frames} frames")
        x = given[name_of(given, SAMPLES)]
        seen = self._scaled(x[:1], latents[current.rows[0].image][None], current.step)
        if x[:1].shape != seen.shape or not _alike(x[:1], seen):
            raise RecordingError(REPLACED.format(current.step))

    def _scaled(self, like: Tensor, z: Tensor, step: int) -> Tensor:
        """The denoiser's input for latents z: scaled as the pipeline does, with the channels that it adds."""
        x = z
        if hasattr(self.scheduler, "scale_model_input"):
            x = self.scheduler.scale_model_input(z, self.scheduler.timesteps[step])
        x, axis = x.to(like.dtype), 1 if like.ndim == 4 else -1
        return torch.cat([x, like.narrow(axis, x.shape[axis], like.shape[axis] - x.shape[axis])], dim=axis)

    def _note(self, acting: LatentIntervention, scene: "_Scene", scores: list[Score], shift: float, z: Tensor) -> None:
        """What was done to one picture at one step goes into the record."""
        self._seen[scene.row.image] += scores[-1:]
        self.log.append(
            {
                "method": acting.method,
                "step": scene.step,
                "image": scene.row.image,
                "losses": [score.value for score in scores],
                "subjects": [dict(score.subjects) for score in scores],
                "terms": [dict(score.terms) for score in scores],
                "shift": shift,
                "norm": float(z.norm()),
            }
        )


@dataclass(frozen=True)
class _Scene:
    """One picture's row of one pass."""

    module: nn.Module
    given: Arguments
    current: Pass
    row: Row

    @property
    def step(self) -> int:
        return self.current.step


def gain(intervention: LatentIntervention, at: Level) -> float:
    """What a step is times of: latents that a scheduler keeps `scale` times as large as the denoiser's input have
    gradients that are as much smaller, so the same move needs scale^2; with `by_noise`, the noise's variance in them.
    """
    return (at.scale * at.sigma) ** 2 if intervention.by_noise else at.scale**2


def settled(score: Score) -> Score:
    """The score without the graph behind its loss."""
    return replace(score, loss=score.value)


def diverged(intervention: LatentIntervention, step: int, what: str) -> Diverged:
    """What to say where numbers have run away."""
    return Diverged(f"{intervention.method}: {what} at step {step}; lower scale_factor, or run the denoiser in float32")


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether these are the same latents; where both have run away, the loss will tell."""
    return torch.allclose(x.float(), y.float(), rtol=1e-3, atol=1e-4, equal_nan=True)


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
