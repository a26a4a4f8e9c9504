"""Relevance back through the text encoders: from the text states that a denoiser reads to the tokens that went in.

The pipeline's own `encode_prompt` runs once more, with a graph, so every way in which pipelines make states of their
encoders is followed: layers that are skipped, encoders side by side in the channels or one behind another. It runs in a
thread of its own, where the recording's hooks do not listen. The pooled states, which reach the denoiser beside its
attention, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.asked.inquiry import Scene
from probe.attach.borrow import by_name, here
from probe.attach.change.gradient import without_weight_gradients
from probe.attach.model.families import Family, Stream
from probe.attach.relevance.denoiser import joined, normalised
from probe.attach.relevance.unrolled import rolled, starting_at, unrolled
from probe.attach.text.alignment import kept
from probe.attach.text.encode import again, calls_for
from probe.attach.text.lexicon import dictionary
from probe.errors import BadInput
from probe.words import Prompt

TOLERANCE = 1e-2  # of the states' own size, within which they count as made again: half precision, fused or not
INSTEAD = "ask for Relevancy(through_text=False), whose relevance stays on the text states"


@dataclass
class Tower:
    """One text encoder in one run: what went in, and its attention."""

    module: nn.Module
    embedded: Tensor | None = None  # [1, l, c]
    attended: Sequence[bool] = ()
    attention: list[Tensor] = field(default_factory=list)  # [1, h, l, l], layer by layer

    @property
    def tensors(self) -> list[Tensor]:
        """All whose gradient is needed."""
        return [*self.attention, *([] if self.embedded is None else [self.embedded])]


@dataclass
class TextPath:
    """From one prompt's text states back to its tokens."""

    scene: Scene
    index: int

    def back(self, states: Tensor, gradient: Tensor) -> Tensor:
        """R-bar_tt [t, t] for text states [t, c] and the target's gradient there. Raises BadInput where it cannot."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._back, states.detach(), gradient.detach()).result()

    @torch.enable_grad()
    def _back(self, states: Tensor, gradient: Tensor) -> Tensor:
        towers = {name: Tower(part) for name, part in encoders(self.scene.pipe).items()}
        with _watching(towers):
            made = _matching(self._made(), states)
            tensors = [tensor for tower in towers.values() for tensor in tower.tensors]
            towards = gradient[: made.shape[1]].to(made)
            found = iter(torch.autograd.grad((made[0] * towards).sum(), tensors, allow_unused=True))
        grads = {name: [next(found) for _ in tower.tensors] for name, tower in towers.items()}
        return self._placed(towers, grads, len(states))

    def _made(self) -> list[Any]:
        """All that the pipeline makes of this prompt alone, told the same as before."""
        own = self.scene.prompts[self.index].text
        results = again(self.scene, calls_for(self.scene, own, own))
        return [value for result in results for value in (result if isinstance(result, tuple | list) else (result,))]

    @torch.no_grad()
    def _placed(self, towers: dict[str, Tower], grads: Mapping[str, Sequence[Tensor | None]], text: int) -> Tensor:
        """Each stream's block on the diagonal; elsewhere a state rests on itself."""
        family = self.scene.family
        R = torch.eye(text)
        for stream, start, count in _streams(self.scene.prompts[self.index], family):
            names = [name for name in (stream.encoder, *(e for e, _ in stream.beside)) if towers[name].attention]
            part = slice(start, start + count)
            R[part, part] = self._together(stream, [(towers[name], grads[name]) for name in names], count).to(R)
        return R

    def _together(self, stream: Stream, both: Sequence[tuple[Tower, Sequence[Tensor | None]]], count: int) -> Tensor:
        """[t, t] of encoders on the same columns: their mean, weighted by sum |gradient * embedding| of each."""
        total, R = 0.0, torch.eye(count)
        for tower, grads in both:
            *rest, G = grads
            R_tt = rolled(tower.attention, rest)
            own = torch.tensor(kept(stream, tower.attended, count, stream.dropped(self.scene.pipe)), device=R_tt.device)
            R_hat = (R_tt - torch.eye(len(R_tt), device=R_tt.device))[own][:, own]
            R_bar = normalised(R_hat) + torch.eye(count, device=R_tt.device)
            m = 0.0 if G is None or tower.embedded is None else float((G * tower.embedded).abs().float().sum())
            R, total = joined(R.to(R_bar), R_bar, total, m), total + m
        return R


def encoders(pipe: Any) -> dict[str, nn.Module]:
    """The pipeline's text encoders that are there."""
    return {
        name: part for name, part in pipe.components.items() if "text_encoder" in name and isinstance(part, nn.Module)
    }


def _streams(prompt: Prompt, family: Family) -> Iterator[tuple[Stream, int, int]]:
    """(stream, its first column, its number of columns)."""
    starts = dictionary(prompt, family).starts
    for stream in family.streams:
        for encoder in (stream.encoder, *(e for e, _ in stream.beside)):
            if encoder in starts:
                yield stream, starts[encoder], prompt.lengths[encoder]


def _matching(values: Sequence[Any], states: Tensor) -> Tensor:
    """The states [1, t, c], with a graph, that are equal to those that the denoiser read."""
    found: list[Tensor] = [value for value in values if _like(value, states)]
    near = [value for value in found if _distance(value[0], states) <= TOLERANCE]
    if not near:
        seen = min((_distance(value[0], states) for value in found), default=float("nan"))
        raise BadInput(
            f"the text states could not be made again from the prompt (they differ by {seen:.2g} of their size): the "
            f"pipeline was given other embeddings, a second prompt, or options that encode_prompt alone does not know; "
            f"{INSTEAD}"
        )
    if not near[0].requires_grad:
        raise BadInput(f"this pipeline encodes its prompts without a graph, so nothing leads back; {INSTEAD}")
    return near[0]


def _like(value: Any, states: Tensor) -> bool:
    if not isinstance(value, Tensor) or value.ndim != 3:
        return False
    return value.shape[-1] == states.shape[-1] and value.shape[1] <= len(states)


def _distance(made: Tensor, states: Tensor) -> float:
    there = states[: len(made)].float()
    return float((made.detach().float() - there).norm() / there.norm())


@contextmanager
def _watching(towers: dict[str, Tower]) -> Iterator[None]:
    """Every encoder notes its embedding, its mask and its attention while it runs."""
    running: list[Tower] = []

    def note(A: Tensor) -> None:
        if running and A.requires_grad and A.ndim == 4:
            running[-1].attention.append(A)

    after = here(lambda *_: running.clear())
    with ExitStack() as stack:
        for tower in towers.values():
            stack.enter_context(without_weight_gradients(tower.module))
            for embedding in _embeddings(tower.module):
                stack.enter_context(starting_at(embedding, partial(setattr, tower, "embedded")))
            before = here(partial(_starts, tower, running))
            stack.callback(tower.module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(tower.module.register_forward_hook(after, always_call=True).remove)
        stack.enter_context(unrolled([tower.module for tower in towers.values()], note))
        yield


def _embeddings(encoder: Any) -> list[nn.Module]:
    """The modules that look up tokens: some encoders share the table between two of them, and run one."""
    if not hasattr(encoder, "get_input_embeddings"):
        raise BadInput(f"{type(encoder).__name__} does not say where its embeddings are; {INSTEAD}")
    table = encoder.get_input_embeddings().weight
    return [part for part in encoder.modules() if isinstance(part, nn.Embedding) and part.weight is table]


def _starts(tower: Tower, running: list[Tower], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
    given = by_name(module.forward, args, kwargs)
    ids, mask = given.get("input_ids"), given.get("attention_mask")
    count = ids.shape[1] if isinstance(ids, Tensor) else 0
    tower.attended = mask[0].bool().tolist() if isinstance(mask, Tensor) and mask.ndim == 2 else [True] * count
    tower.attention.clear()
    running[:] = [tower]
