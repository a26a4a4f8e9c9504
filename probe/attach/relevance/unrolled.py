"""Transformers with their attention in the open: every softmax is noted with its graph, fused calls are spelt out.

For text encoders and other towers, whose sequences are short enough to keep A [1, h, n, n] of every layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.attach.borrow import here
from probe.attach.relevance.tape import values
from probe.attach.waist import ALL, Call, Waist, scores

PROJECTIONS = (("q_proj", "k_proj"), ("query", "key"), ("q", "k"), ("to_q", "to_k"))
SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)

Note = Callable[[Tensor], None]


def self_attentions(module: nn.Module) -> dict[str, nn.Module]:
    """Path -> module of every attention layer: those that project queries and keys."""
    return {
        path: part
        for path, part in module.named_modules()
        if any(hasattr(part, q) and hasattr(part, k) for q, k in PROJECTIONS)
    }


class Softmaxes(TorchFunctionMode):
    """Notes the result of every softmax."""

    def __init__(self, note: Note):
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOFTMAX:
            self.note(result)
        return result


def spelt(call: Call) -> Tensor:
    """O = softmax(S) V, without the fused kernel."""
    A = scores(call, ALL, ALL).softmax(-1)
    return A.to(call.v.dtype) @ values(call)


@contextmanager
def unrolled(modules: Sequence[nn.Module], note: Note, attend: Callable[[Call], Tensor] = spelt) -> Iterator[None]:
    """Inside, `note` is given the attention probabilities of each layer as it runs, in this thread alone."""
    waist = Waist(lambda call, lse: None, lambda path: True, attend)
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(waist.on(self_attentions(module)))
        stack.enter_context(Softmaxes(note))
        yield


@contextmanager
def starting_at(embedding: nn.Module, note: Note) -> Iterator[None]:
    """Inside, what an embedding gives is a leaf that asks for a gradient; `note` is given it."""

    def leaf(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        start = output.detach().requires_grad_(True)
        note(start)
        return start

    handle = embedding.register_forward_hook(here(leaf))
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def rolled(attention: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    """R [n, n] = product of 1 + A-bar over the layers, later ones on the left; A-bar = mean_heads(max(0, grad_A * A)).

    Rule 6 of generic attention explainability. A layer without a gradient leaves R as it is.
    """
    R = torch.eye(attention[0].shape[-1], device=attention[0].device)
    for A, G in zip(attention, gradients, strict=True):
        if G is not None:
            R = R + (A.float() * G.float()).clamp(min=0).mean(1)[0] @ R
    return R
