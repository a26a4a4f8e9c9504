"""Takes relevancy maps at chosen steps of a generation, each step on its own, so memory is bounded by one step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.change.alter import arguments_of_row
from probe.attach.change.gradient import without_weight_gradients
from probe.attach.given import SAMPLES, STATES
from probe.attach.kept.guiders import scale_of
from probe.attach.model.layout import Plane, plane, unpacked
from probe.attach.model.prediction import level, noise_share
from probe.attach.relevance.denoiser import Seat, relevance
from probe.attach.relevance.targets import TARGETS, Box, Seen, alone
from probe.attach.relevance.text import TextPath
from probe.attach.text.lexicon import dictionary
from probe.attach.text.rows import Row
from probe.axes import RELEVANCY
from probe.errors import BadInput, RecordingError, UnknownFamily

Arguments = dict[str, Any]
Group = tuple[Arguments, Sequence[Row]]
OTHERS = ("uncond", "negative")


class Relevancy(Inquiry):
    """Which word each cell's output rests on (`probe.relevancy` reads the maps).

    `target`: "guidance" (half the squared norm of conditional minus unconditional output: what the prompt adds),
    "output" (of the conditional output), "x0" (of the predicted clean latents), or any function of what is seen there
    to a scalar (`probe.attach.relevance.targets`).
    `box`: left, top, right, bottom as shares of the picture; None is all of it.
    `through_text`: land on the tokens that went into the text encoders; False stays on the text states that came out.
    `self_rule`: keep the relevance between cells as well (U-Nets of up to 4096 cells), as the full rule does.
    """

    target: Literal["guidance", "output", "x0"] | Callable[[Seen], Tensor] = "guidance"
    box: Box | None = None
    through_text: bool = True
    self_rule: bool = False

    @property
    def name(self) -> str:
        """What a trace calls the target."""
        target = self.target
        return target if isinstance(target, str) else str(getattr(target, "name", getattr(target, "__name__", target)))

    def begin(self, scene: Scene) -> Answer:
        family = scene.family
        partly = family.further or family.silent or family.effective or family.fill > 1
        if family.text not in ("cross", "first", "last") or partly:
            raise UnknownFamily(
                f"relevancy cannot be carried through {family.name}: it needs one sequence of text states, all of "
                "it read by softmax attention (SD, SDXL, SD3, FLUX and the like); use probe.attention for it instead"
            )
        if not scene.prompts:
            raise BadInput("relevancy needs the words of the prompt; give the pipeline its prompt as text")
        return RelevancyReader(self, scene, [_columns(scene, i) for i in range(len(scene.prompts))])


def _columns(scene: Scene, prompt: int) -> dict[str, list[int]]:
    """label -> columns of a prompt's content words, in all encoders."""
    lexicon = dictionary(scene.prompts[prompt], scene.family).lexicon(list(scene.words[prompt]))
    members = zip(lexicon.labels, lexicon.members, strict=True)
    return {label: [lexicon.columns[i] for i in own] for label, own in members}


@dataclass
class RelevancyReader(Answer):
    """The maps of one generation: step -> image -> [word, y, x]."""

    request: Relevancy
    scene: Scene
    words: Sequence[Mapping[str, Sequence[int]]]  # per prompt: label -> columns of the text states
    maps: dict[int, dict[int, tuple[int, Tensor]]] = field(default_factory=dict)  # with the picture's prompt
    shares: dict[int, float] = field(default_factory=dict)  # of noise that each step removes
    _step: int = -1
    _calls: list[Group] = field(default_factory=list)  # of this step, so that branches that run apart meet

    def due(self, step: int) -> bool:
        """Whether this step is to be explained; or one before it still waits for its other branch, in vain."""
        return self.request.wants(step) or (step != self._step and self._waiting())

    def read(self, module: nn.Module, given: Arguments, rows: Sequence[Row], step: int) -> None:
        """Explain one step for every picture, as soon as the branches that the target needs have been seen."""
        if step != self._step:
            self._check()
            self._step, self._calls = step, []
        self._calls.append((given, rows))
        maps = self.maps.setdefault(step, {})
        for row, one in self._single("cond"):
            others = [other for r, other in self._single(*OTHERS) if r.image == row.image]
            if row.image not in maps and (others or self.request.target != "guidance"):
                maps[row.image] = row.prompt, self._explained(module, one, others, row)
        scheduler = self.scene.pipe.scheduler
        self.shares[step] = max(0.0, noise_share(scheduler, step) - noise_share(scheduler, step + 1))

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """Relevancy of the words at the explained steps; NaN for words that a picture's prompt does not have."""
        self._check()
        if not any(self.maps.values()):
            return {}
        labels = list(dict.fromkeys(label for words in self.words for label in words))
        steps, images = sorted(self.maps), sorted({image for maps in self.maps.values() for image in maps})
        shape = next(iter(self.maps[steps[0]].values()))[1].shape[1:]
        values = np.full((len(steps), len(images), len(labels), *shape), np.nan, np.float32)
        for i, step in enumerate(steps):
            for image, (prompt, planes) in self.maps[step].items():
                values[i, images.index(image), [labels.index(label) for label in self.words[prompt]]] = planes
        variables = {
            "relevancy": (RELEVANCY, values, self._attributes()),
            "noise_removed": ("step", np.array([self.shares[step] for step in steps], np.float32)),
        }
        return {"/relevancy": xr.Dataset(variables, coords={"step": steps, "image": images, "word": labels})}

    def _attributes(self) -> dict[str, Any]:
        request = self.request
        return {
            "target": request.name,
            "box": list(request.box or (0.0, 0.0, 1.0, 1.0)),
            "lands_on": "tokens" if request.through_text else "text states",
            "self_rule": int(request.self_rule),
        }

    def _single(self, *branches: str) -> Iterator[tuple[Row, Arguments]]:
        """The rows of some branches in this step, each with its own arguments."""
        for given, rows in self._calls:
            for i, row in enumerate(rows):
                if row.branch in branches:
                    yield row, arguments_of_row(given, i, len(rows))

    def _waiting(self) -> bool:
        """Whether a picture of the current step could not be explained yet."""
        return any(row.image not in self.maps[self._step] for row, _ in self._single("cond"))

    def _check(self) -> None:
        """Raises BadInput if the other branch never came."""
        if self._waiting():
            raise alone()

    def _explained(self, module: nn.Module, one: Arguments, others: Sequence[Arguments], row: Row) -> Tensor:
        """[word, y, x] on the host."""
        (sample, latents), (states, text) = _tensor(one, SAMPLES), _tensor(one, STATES)
        where = self._plane(one, latents)
        seat = Seat(sample, states, (where.height, where.width), self.scene.family, text.shape[1])
        other = self._predicted(module, others[0], where) if others else None
        target = self.request.target
        scalar = TARGETS[target] if isinstance(target, str) else target
        back = TextPath(self.scene, row.prompt).back
        with ExitStack() as stack:
            if isinstance(vae := getattr(self.scene.pipe, "vae", None), nn.Module):
                stack.enter_context(without_weight_gradients(vae))
            R = relevance(
                module,
                one,
                seat=seat,
                target=lambda value: scalar(self._seen(one, other, value)),
                through=partial(back, text[0]) if self.request.through_text else None,
                self_rule=self.request.self_rule,
            )
        if not bool(torch.isfinite(R).all()):
            raise RecordingError("relevancy is not finite: its gradients overflow; run the denoiser in float32")
        planes = [R[:, list(columns)].sum(1) for columns in self.words[row.prompt].values()]
        return torch.stack(planes).unflatten(1, seat.grid).float().cpu()

    def _plane(self, one: Arguments, latents: Tensor) -> Plane:
        where = plane(one, latents, self.scene.family)
        if where.frames > 1 or where.tokens > where.cells:
            raise UnknownFamily(
                f"relevancy follows one picture, and this pass of {self.scene.family.name} has {where.frames} frames "
                f"and {where.tokens} tokens; use probe.attention for it instead"
            )
        return where

    def _seen(self, one: Arguments, other: Tensor | None, value: Tensor) -> Seen:
        """What a target is shown of the denoiser's output, as planes."""
        family, pipe, latents = self.scene.family, self.scene.pipe, _tensor(one, SAMPLES)[1]
        where = self._plane(one, latents)
        output = unpacked(value, where, family).float() * family.sign
        timestep = pipe.scheduler.timesteps[self._step]
        return Seen(
            output=output,
            other=other,
            latents=unpacked(latents, where, family)[:, : output.shape[1]],
            level=level(pipe.scheduler, timestep),
            vae=getattr(pipe, "vae", None),
            scale=scale_of(pipe) or 1.0,
            box=self.request.box,
        )

    @torch.no_grad()
    def _predicted(self, module: nn.Module, given: Arguments, where: Plane) -> Tensor:
        """The other branch's output for the same picture, as planes."""
        output = module.forward(**given)
        value = output[0] if isinstance(output, tuple | list) else output.sample
        return unpacked(value, where, self.scene.family).float() * self.scene.family.sign


def _tensor(given: Arguments, names: Sequence[str]) -> tuple[str, Tensor]:
    """The denoiser's name for its latents or text states, and their value."""
    for name in names:
        if isinstance(value := given.get(name), Tensor):
            return name, value
    raise UnknownFamily(
        f"relevancy needs one tensor named {' or '.join(names)}, and this denoiser was given "
        f"{', '.join(sorted(given))}; use probe.attention for this model instead"
    )
