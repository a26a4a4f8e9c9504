"""Layer-wise relevance propagation through a transformer, as its own backward pass.

Inside `propagating` every layer computes what it always does, and what flows back is relevance in place of a gradient,
by the rules of Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization" (2021), for alpha = 1.
Linear layers, residual sums and the two products of attention have rules of their own; whatever else keeps its input's
shape (norms, activations, softmax) passes relevance on as it is. Biases get none.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from probe.attach.borrow import here
from probe.attach.relevance.tape import values
from probe.attach.relevance.unrolled import Note, unrolled
from probe.attach.waist import ALL, Call, scores

EPS = 1e-9
SUMS = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)


def safe(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b == 0, 0.0, a / (b + EPS))


class Linear(Function):
    """Z = x+ w+ + x- w-; R_x = x+ (w+^T (R / Z)) + x- (w-^T (R / Z)): only products of one sign count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        parts = [(x.clamp(min=0), weight.clamp(min=0)), (x.clamp(max=0), weight.clamp(max=0))]
        S = safe(grads[0], sum(F.linear(a, w) for a, w in parts) + torch.zeros_like(grads[0]))
        return parts[0][0] * (S @ parts[0][1]) + parts[1][0] * (S @ parts[1][1]), None, None


class Sum(Function):
    """R_a = a R / (a + b), then both scaled so that their totals share that of R by size."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        S = safe(grads[0], a + b)
        R_a, R_b = a * S, b * S
        whole = R_a.sum().abs() + R_b.sum().abs()
        share_a, share_b = (safe(R.sum().abs(), whole) * grads[0].sum() for R in (R_a, R_b))
        return R_a * safe(share_a, R_a.sum()), R_b * safe(share_b, R_b.sum())


class Product(Function):
    """R_a = a ((R / Z) b^T) / 2 and R_b = b (a^T (R / Z)) / 2 for Z = a b."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        S = safe(grads[0], a @ b)
        return a * (S @ b.transpose(-1, -2)) / 2, b * (a.transpose(-1, -2) @ S) / 2


class Same(Function):
    """`out`, whose relevance is that of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, out: Tensor) -> Tensor:
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class Sums(TorchFunctionMode):
    """Sums of two tensors of one shape that both lead back to the input follow the rule of `Sum`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        two = len(args) == 2 and all(isinstance(x, Tensor) and x.requires_grad for x in args)
        if func in SUMS and two and not kwargs and args[0].shape == args[1].shape:
            return Sum.apply(*args)
        return func(*args, **(kwargs or {}))


@contextmanager
def propagating(module: nn.Module, note: Note) -> Iterator[None]:
    """Inside, `torch.autograd.grad` gives relevance; `note` is given the attention probabilities of each layer."""
    with ExitStack() as stack:
        for part in module.modules():
            if not any(part.children()):
                stack.callback(part.register_forward_hook(here(_leaf)).remove)
        stack.enter_context(Sums())
        stack.enter_context(unrolled([module], lambda A: None, _attention(note)))
        yield


def _leaf(part: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
    """The output with its rule; None leaves it as it is."""
    x = args[0] if args else None
    if not isinstance(x, Tensor) or not isinstance(output, Tensor) or not x.requires_grad:
        return None
    if isinstance(part, nn.Linear):
        return Linear.apply(x, part.weight, output.detach())
    return Same.apply(x, output.detach()) if x.shape == output.shape else None


def _attention(note: Note) -> Callable[[Call], Tensor]:
    def attend(call: Call) -> Tensor:
        k = call.keys(ALL).transpose(-1, -2)
        A = scores(call, ALL, ALL).softmax(-1).to(call.v.dtype)
        A = Same.apply(Product.apply(call.q, k), A.detach())
        note(A)
        return Product.apply(A, values(call))

    return attend
