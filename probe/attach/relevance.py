"""Relevancy through a denoiser: which word each cell's output rests on, carried through all its attention.

The rules are those of generic attention explainability (Chefer, Gur, Wolf 2021) with
A-bar = mean_heads(max(0, grad_A * A)), carried over a U-Net's changes of resolution and its skip connections, and over
joint blocks. Neither A nor its gradient is kept: for O = A V with G = dy/dO, grad_A = G V^T exactly, so both are made
again in chunks of queries, and memory stays O(cells * (width + tokens)).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.attach.waist import CHUNK, Call, Waist, attention_modules, plain, scores

Target = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class Event:
    """Something that the forward pass did to the plane of cells, in order."""

    kind: str  # "attend", "push" (a skip connection is kept), "pop" (one is joined), "resize"
    call: Call | None = None
    tensor: Tensor | None = None  # the output of "attend", the joined input of "pop"
    channels: int = 0  # of the skip, for "push"
    grid: tuple[int, int] = (0, 0)  # after "resize"


@dataclass
class Tape:
    """The events of one forward pass of one row."""

    events: list[Event] = field(default_factory=list)

    def attend(self, call: Call) -> Tensor:
        """Run the call with a graph and note it."""
        out = plain(call)
        self.events.append(Event("attend", call, out))
        return out

    def tensors(self) -> list[Tensor]:
        """All tensors whose gradient the rules need."""
        return [event.tensor for event in self.events if event.tensor is not None]


def weighted(call: Call, G: Tensor, rows: slice) -> Tensor:
    """A-bar [n, m] = mean_heads(max(0, grad_A * A)) for a chunk of queries, with grad_A = G V^T."""
    everything = torch.arange(call.columns, device=call.q.device)
    A = scores(call, rows, everything).softmax(-1)  # [1, h, n, m]
    groups = call.heads // call.v.shape[-3]
    v = call.v.repeat_interleave(groups, dim=-3) if groups > 1 else call.v
    grad_A = G[..., rows, :].float() @ v.float().transpose(-1, -2)
    return (A * grad_A).clamp(min=0).mean(1)[0]


def carried(call: Call, G: Tensor, R: Tensor) -> Tensor:
    """A-bar R [n, t], chunk by chunk."""
    size = max(1, CHUNK // (call.heads * call.columns))
    parts = [slice(i, min(i + size, call.rows)) for i in range(0, call.rows, size)]
    return torch.cat([weighted(call, G, part) @ R for part in parts])


@torch.no_grad()
def propagate(events: list[Event], gradients: list[Tensor | None], R_tt: Tensor, cells: tuple[int, int]) -> Tensor:
    """Carry R [cell, token] from the input to the output; returns it at the output's resolution.

    cross   R <- R + A-bar R_tt          self   R <- R + A-bar R
    joint   [R_tt; R] <- [R_tt; R] + A-bar [R_tt; R], with the text where the call has it
    skips   R <- (m_up R_up + m_skip R_skip) / (m_up + m_skip), m = sum |gradient * activation| of each branch
    """
    grid, given = cells, iter(gradients)
    R = torch.zeros(grid[0] * grid[1], R_tt.shape[1], device=R_tt.device)
    kept: list[Tensor] = []
    for event in events:
        if event.kind == "push":
            kept.append(R)
        elif event.kind == "resize":
            R, grid = resized(R, grid, event.grid), event.grid
        else:
            G = next(given)
            if G is None:  # the target does not depend on it
                R = R if event.kind == "attend" else joined(R, kept.pop(), 1.0, 0.0)
            elif event.kind == "attend":
                R = _attended(event.call, G, R, R_tt)
            else:
                R = _popped(event, G, R, kept.pop())
    return R


def _attended(call: Call | None, G: Tensor, R: Tensor, R_tt: Tensor) -> Tensor:
    assert call is not None
    if call.columns == len(R_tt) and call.rows == len(R):
        return R + carried(call, G, R_tt)
    if call.columns == len(R) and call.rows == len(R):
        return R + carried(call, G, R)
    return R


def _popped(event: Event, G: Tensor, R: Tensor, skip: Tensor) -> Tensor:
    assert event.tensor is not None
    weight = (G * event.tensor).abs().sum((0, 2, 3))  # [channel]; the skip's channels come last
    up = len(weight) - event.channels
    return joined(R, skip, float(weight[:up].sum()), float(weight[up:].sum()))


def joined(R: Tensor, skip: Tensor, m: float, m_skip: float) -> Tensor:
    """The Add rule: the mean of both branches, weighted by what each contributes."""
    return R if m + m_skip == 0 else (m * R + m_skip * skip) / (m + m_skip)


def resized(R: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """[cell, token] on another grid: the mean of the cells that are merged, or copies of the cell that is split."""
    plane = R.T.reshape(1, -1, *grid)
    down = target[0] < grid[0]
    plane = F.adaptive_avg_pool2d(plane, target) if down else F.interpolate(plane, target, mode="nearest")
    return plane.reshape(R.shape[1], -1).T


def relevance(module: nn.Module, given: dict[str, Any], sample: str, states: str, target: Target) -> Tensor:
    """[cell, token]: the relevancy of each text state for `target` of the denoiser's output, per cell of the latents.

    `given`: one row of the denoiser's arguments; `sample` and `states` name its latents and its text states.
    """
    tape, x = Tape(), given[sample].detach().requires_grad_(True)
    with torch.enable_grad(), _taping(module, tape):
        output = module.forward(**(given | {sample: x}))
        value = output[0] if isinstance(output, tuple | list) else output.sample
        gradients = torch.autograd.grad(target(value), tape.tensors(), allow_unused=True)
    text = given[states].shape[1]
    return propagate(tape.events, list(gradients), torch.eye(text, device=x.device), tuple(x.shape[-2:]))


@contextmanager
def _taping(module: nn.Module, tape: Tape) -> Iterator[None]:
    """Hooks that write the tape: on attention, and where a U-Net keeps, joins and resizes planes."""
    waist = Waist(lambda call, lse: None, lambda path: True, tape.attend)
    with ExitStack() as stack:
        stack.callback(waist.begin_pass)
        for path, part in attention_modules(module).items():
            for handle in waist.hooks(part, path):
                stack.callback(handle.remove)
        for handle in _unet_hooks(module, tape):
            stack.callback(handle.remove)
        yield


def _unet_hooks(unet: Any, tape: Tape) -> Iterator[Any]:
    """What happens to the plane between attention layers; nothing for a transformer, whose cells stay in place."""
    if not hasattr(unet, "down_blocks"):
        return
    channels: list[int] = []

    def push(module: nn.Module, args: Any, output: Any) -> None:
        value = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        channels.append(value.shape[1])
        tape.events.append(Event("push", channels=value.shape[1]))

    def resize(module: nn.Module, args: Any, output: Tensor) -> None:
        tape.events.append(Event("resize", grid=(output.shape[-2], output.shape[-1])))

    def pop(module: nn.Module, args: tuple[Any, ...]) -> None:
        tape.events.append(Event("pop", tensor=args[0], channels=channels.pop()))

    yield unet.conv_in.register_forward_hook(push)
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", None)
        for part in attentions if attentions is not None else block.resnets:
            yield part.register_forward_hook(push)
        for part in block.downsamplers or []:
            yield part.register_forward_hook(resize)
            yield part.register_forward_hook(push)
    for block in unet.up_blocks:
        for part in block.resnets:
            yield part.register_forward_pre_hook(pop)
        for part in block.upsamplers or []:
            yield part.register_forward_hook(resize)
