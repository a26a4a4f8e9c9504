"""Attributions by Captum, one step at a time: of what a word's text states, or the latents, did to the prediction.

Captum's methods are used as they are (https://captum.ai). Here are the inputs (the text states of the conditional row,
or its latents), the baselines (the other branch's text states or padding; zeros), the features that are taken away
together (words; squares of cells), and the scalars: any of `probe.attach.relevance.targets` for the text, and for the
latents, word by word, half the squared norm of what leaving the word out changes. Where a method promises that its
attributions sum to f(x) - f(baseline), `delta` says how far they are from it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
import xarray as xr
from captum.attr import (
    FeatureAblation,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ShapleyValueSampling,
)
from pydantic import Field
from torch import Tensor

from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.asked.rerun import Beside, Reader, check_text
from probe.attach.change.gradient import checkpointed, without_weight_gradients
from probe.attach.kept.guiders import scale_of
from probe.attach.model.layout import unpacked
from probe.attach.model.prediction import level
from probe.attach.relevance.targets import TARGETS, Box, Seen
from probe.attach.text.encode import padded
from probe.attach.text.lexicon import dictionary
from probe.axes import SPECIAL
from probe.errors import BadInput, RecordingError
from probe.words import Prompt

SQUARE = 4  # latent pixels along the side of what is taken away together

MethodName = Literal[
    "integrated_gradients", "input_x_gradient", "saliency", "occlusion", "feature_ablation", "shapley_sampling"
]
Forward = Callable[[Tensor], Tensor]  # n inputs -> [n]


class Gradients(Inquiry):
    """What the prediction owes to its inputs (`probe.gradients` and `probe.token_scores` read it).

    `on`: "latents", a map a word, of what the word alone adds inside of `box`; or "text", a number a word, of `target`
    ("guidance", "output", "x0" or a function, see `probe.Relevancy`) there. `samples`: points of the path, or orders.
    `noise` above 0 takes the mean over `noisy` inputs with noise of that deviation (SmoothGrad). `at_once` inputs are
    in memory at a time, with `checkpoints` the graph of one block of the denoiser, for about a third more time.
    Sampling draws from `seed`. `label` is what the trace has it under, for several in one run (default: what it is
    `on`).
    """

    method: MethodName = "integrated_gradients"
    on: Literal["text", "latents"] = "latents"
    target: Literal["guidance", "output", "x0"] | Callable[[Seen], Tensor] = "guidance"
    box: Box | None = None
    samples: int = Field(default=16, ge=1)
    noise: float = Field(default=0.0, ge=0.0)
    noisy: int = Field(default=4, ge=1)
    at_once: int = Field(default=2, ge=1)
    checkpoints: bool = True
    seed: int = 0
    label: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")

    def begin(self, scene: Scene) -> Answer:
        check_text(scene, "Gradients")
        if self.noise and not RULES[self.method].differentiates:
            raise BadInput(
                f"noise={self.noise}: {self.method} takes no gradient that noise could smooth; leave it at 0"
            )
        return GradientReader(scene, self.wants, self)


@dataclass(frozen=True)
class Question:
    """An input [1, ...], what to compare it with, and what of it belongs together: features, or tiles of a window."""

    x: Tensor
    baseline: Tensor
    features: Tensor
    tiles: Tensor
    window: tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """One of Captum's methods. `complete`: its attributions sum to f(x) - f(baseline). `groups` names what is taken
    away together, each element of which Captum gives the value of the whole.
    """

    method: type[Any]
    options: Callable[[Gradients, Question], dict[str, Any]]
    complete: bool = False
    groups: Literal["features", "tiles"] | None = None

    @property
    def differentiates(self) -> bool:
        """Whether it needs the gradient."""
        return self.groups is None


def _ablated(asked: Gradients, question: Question) -> dict[str, Any]:
    baselines = {"baselines": question.baseline, "perturbations_per_eval": asked.at_once}
    return baselines | {"feature_mask": question.features}


RULES: dict[str, Rule] = {
    "integrated_gradients": Rule(
        IntegratedGradients,
        lambda a, q: {"baselines": q.baseline, "n_steps": a.samples, "internal_batch_size": a.at_once},
        complete=True,
    ),
    "input_x_gradient": Rule(InputXGradient, lambda a, q: {}),
    "saliency": Rule(Saliency, lambda a, q: {"abs": False}),
    "occlusion": Rule(
        Occlusion,
        lambda a, q: {
            "sliding_window_shapes": q.window,
            "strides": q.window,
            "baselines": q.baseline,
            "perturbations_per_eval": a.at_once,
        },
        groups="tiles",
    ),
    "feature_ablation": Rule(FeatureAblation, _ablated, groups="features"),
    "shapley_sampling": Rule(
        ShapleyValueSampling, lambda a, q: _ablated(a, q) | {"n_samples": a.samples}, complete=True, groups="features"
    ),
}


def attribute(asked: Gradients, forward: Forward, question: Question) -> Tensor:
    """Attributions with the shape of the input, such that what belongs together sums to its own attribution."""
    rule, x = RULES[asked.method], question.x.detach()
    method, options = rule.method(forward), rule.options(asked, question)
    if asked.noise:
        method = NoiseTunnel(method)
        options |= {"nt_samples": asked.noisy, "nt_samples_batch_size": 1, "stdevs": asked.noise}
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(asked.seed)
        found: Any = method.attribute(x.requires_grad_(rule.differentiates), **options)
    if rule.groups is None:
        return found.detach()
    groups: Tensor = getattr(question, rule.groups)
    repeats = found.numel() // groups.numel()
    return found.detach() / (torch.bincount(groups.flatten()) * repeats)[groups]


@dataclass
class GradientReader(Reader):
    """Attributions of one generation: to the words' text states, or to the cells of the latents."""

    request: Gradients

    def look(self, beside: Beside, step: int) -> None:
        with ExitStack() as stack:
            for module in (beside.module, getattr(self.scene.pipe, "vae", None)):
                if isinstance(module, torch.nn.Module):
                    stack.enter_context(without_weight_gradients(module))
            if self.request.checkpoints:
                stack.enter_context(checkpointed(beside.module))
            stack.enter_context(torch.enable_grad())
            ask = self._text if self.request.on == "text" else self._latents
            ask(beside, (step, beside.row.image))

    def _text(self, beside: Beside, place: tuple[int, int]) -> None:
        prompt, other = self.scene.prompts[beside.row.prompt], beside.other()
        if other is None and self.request.target == "guidance":
            raise BadInput(
                "attributions of the guidance need both branches in one batch, and this run has only one; "
                "ask for Gradients(on='text', target='output')"
            )
        groups = parts(prompt, self.scene)
        states, baseline = beside.states, beside.other_states
        if baseline is None:
            words = [word.label for word in prompt.words if any(word.tokens.values())]
            baseline = padded(prompt, self.scene.family, states, words)
        target = TARGETS[self.request.target] if isinstance(self.request.target, str) else self.request.target

        def forward(inputs: Tensor) -> Tensor:
            rows = beside.predict(inputs.to(states.dtype))
            return torch.stack([target(self._seen(beside, row[None], other, place[0])) for row in rows])

        question = text_question(states.float(), baseline.float(), list(groups.values()))
        found = self._answer(forward, question, (*place, ""))[0].sum(-1)  # [t]
        self.findings.note_all("score", place, {word: found[own].sum() for word, own in groups.items()})

    def _latents(self, beside: Beside, place: tuple[int, int]) -> None:
        prompt, sample = self.scene.prompts[beside.row.prompt], beside.sample
        for word in (word.label for word in prompt.words if word.content):
            both = torch.stack([beside.states, padded(prompt, self.scene.family, beside.states, [word])])

            def forward(inputs: Tensor, both: Tensor = both) -> Tensor:
                latents = torch.cat([inputs, inputs]).to(sample.dtype)
                whole, part = beside.predict(both.repeat_interleave(len(inputs), 0), sample=latents).chunk(2)
                seen = self._seen(beside, whole, part, place[0])
                return (seen.inside(seen.guidance) ** 2).flatten(1).sum(1) / 2

            question = latent_question(sample.float(), gradient=RULES[self.request.method].differentiates)
            found = self._answer(forward, question, (*place, word))
            self.findings.note("map", (*place, word), unpacked(found, beside.plane, self.scene.family)[0].sum(0))

    def _answer(self, forward: Forward, question: Question, key: tuple[int, int, str]) -> Tensor:
        """The attributions; keeps the target's values, and how far the sum is from their difference."""
        found = attribute(self.request, forward, question)
        if not bool(torch.isfinite(found).all()):
            raise RecordingError("the attributions are not finite: gradients overflow; run the denoiser in float32")
        with torch.no_grad():
            value, base = forward(question.x.detach())[0], forward(question.baseline)[0]
        self.findings.note("value", key, value)
        self.findings.note("baseline", key, base)
        self.findings.note("delta", key, found.sum() - (value - base))
        return found

    def _seen(self, beside: Beside, output: Tensor, other: Tensor | None, step: int) -> Seen:
        """What a target is shown."""
        family, scheduler = self.scene.family, self.scene.pipe.scheduler
        latents = unpacked(beside.sample[None], beside.plane, family)[:, : output.shape[1]]
        return Seen(
            output=output * family.sign,
            other=None if other is None else (other if other.ndim == output.ndim else other[None]) * family.sign,
            latents=latents,
            level=level(scheduler, scheduler.timesteps[step]),
            vae=getattr(self.scene.pipe, "vae", None),
            scale=scale_of(self.scene.pipe) or 1.0,
            box=self.request.box,
        )

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """/gradients/text: score by word; /gradients/latents: map by word and cell; both with the target's values."""
        if not self.findings.values:
            return {}
        request, units = self.request, "the target's units"
        complete = RULES[request.method].complete and not request.noise
        attributes = request.model_dump(include={"method", "samples", "noise", "seed"}) | {
            "target": _name(request.target) if request.on == "text" else "what leaving the word out changes",
            "box": list(request.box or (0.0, 0.0, 1.0, 1.0)),
            "complete": int(complete),
        }
        named = dict.fromkeys(self.findings.values, units)
        return {f"/gradients/{request.label or request.on}": self.findings.dataset(named, attributes)}


def parts(prompt: Prompt, scene: Scene) -> dict[str, list[int]]:
    """The columns of every word and of the special tokens, in all encoders."""
    starts = dictionary(prompt, scene.family).starts
    words = {word.label: word.tokens for word in prompt.words} | {name: prompt.specials[name] for name in SPECIAL}
    found = {
        label: [start + i for encoder, start in starts.items() for i in tokens.get(encoder, ())]
        for label, tokens in words.items()
    }
    return {label: own for label, own in found.items() if own}


def text_question(states: Tensor, baseline: Tensor, groups: Sequence[Sequence[int]]) -> Question:
    """Of text states [t, c]: words belong together; a column in none of them is by itself."""
    owner = torch.arange(len(states), device=states.device)
    for own in groups:
        owner[list(own)] = own[0]
    features = torch.unique(owner, return_inverse=True)[1]
    every = torch.arange(len(states), device=states.device)
    words, columns = features[None, :, None], every[None, :, None]  # the same for all channels
    return Question(states[None], baseline[None], words, columns, (1, states.shape[1]))


def latent_question(sample: Tensor, *, gradient: bool) -> Question:
    """Of latents [c, y, x]: squares of cells belong together. Raises BadInput where packed ones have none."""
    if gradient:
        nothing = torch.zeros_like(sample, dtype=torch.long)[None]
        return Question(sample[None], torch.zeros_like(sample)[None], nothing, nothing, ())
    if sample.ndim != 3:
        raise BadInput(
            f"latents of shape {tuple(sample.shape)} have no squares to occlude; use method='integrated_gradients'"
        )
    height, width = sample.shape[-2:]
    rows, columns = (torch.arange(side, device=sample.device) // SQUARE for side in (height, width))
    square = (rows[:, None] * (int(columns[-1]) + 1) + columns)[None, None]
    return Question(sample[None], torch.zeros_like(sample)[None], square, square, (len(sample), SQUARE, SQUARE))


def _name(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "name", getattr(target, "__name__", target)))
