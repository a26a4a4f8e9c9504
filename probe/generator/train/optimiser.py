"""Muon for the matrices and kernels, AdamW for the rest.

On two cores a few thousand steps are all there is, and Muon makes the most of each: after the same 150 steps of
the autoencoder its squared error was a third of AdamW's (`experiments/bench_optimiser.py`).
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from probe.generator.train.precision import half

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.775, 2.0315)  # Jordan et al. (2024): steepest at zero, singular values end between 0.5 and 1.5
ROUNDS = 5


def orthogonal(G: Tensor, dtype: torch.dtype) -> Tensor:
    """G with singular values near one and its own vectors, by Newton-Schulz: X <- aX + (bY + cYY)X with Y = XX'."""
    a, b, c = QUINTIC
    X = G.to(dtype) if G.shape[0] <= G.shape[1] else G.to(dtype).T
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        Y = X @ X.T
        X = a * X + (b * Y + c * Y @ Y) @ X
    return X if G.shape[0] <= G.shape[1] else X.T


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; updates have the size of AdamW's (0.2 sqrt(larger side), Liu et al. 2025).

    `torch.optim.Muon` does the same in bfloat16 always, which takes twenty times as long where a CPU has no bfloat16.
    """

    def __init__(self, params: Iterable[Tensor], weight_decay: float = 0.0):
        super().__init__(params, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                held = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad))
                held.lerp_(p.grad, 1 - MOMENTUM)
                update = orthogonal(p.grad.lerp(held, MOMENTUM), half(p.device.type) or torch.float32)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.to(p.dtype), alpha=-0.2 * group["lr"] * math.sqrt(max(p.shape)))


class MatrixOptimiser:
    """Muon takes matrices only, so each kernel lends it a flattened view of its own storage."""

    def __init__(self, module: nn.Module, weight_decay: float, betas: tuple[float, float]):
        self._kernels = [p for name, p in module.named_parameters() if _is_matrix(name, p)]
        taken = {id(p) for p in self._kernels}
        self._flat = [nn.Parameter(p.data.view(p.shape[0], -1)) for p in self._kernels]
        rest = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
        self.parts = (
            Muon(self._flat, weight_decay),
            torch.optim.AdamW(rest, lr=0.0, betas=betas, weight_decay=weight_decay, fused=True),
        )

    def step(self, lr: float) -> None:
        """One update at learning rate `lr`; gradients are used up."""
        for kernel, flat in zip(self._kernels, self._flat, strict=True):
            flat.grad = None if kernel.grad is None else kernel.grad.view_as(flat)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()
            part.zero_grad(set_to_none=True)
        for kernel in self._kernels:
            kernel.grad = None

    def state(self) -> dict[str, Tensor]:
        """The moments, flat, for a checkpoint."""
        return dict(self._rows())

    def load(self, flat: dict[str, Tensor]) -> None:
        """Take the moments of `state` back."""
        for k, part in enumerate(self.parts):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in flat.items():
                owner, i, name = key.split(".", 2)
                if int(owner) == k:
                    state.setdefault(int(i), {})[name] = value
            part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})

    def _rows(self) -> Iterator[tuple[str, Tensor]]:
        for k, part in enumerate(self.parts):
            for i, row in part.state_dict()["state"].items():
                for name, value in row.items():
                    yield f"{k}.{i}.{name}", torch.as_tensor(value).clone()


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Hidden matrices and kernels; embeddings and the first and last layers suit AdamW better."""
    outer = ("embedding", "conv_in", "conv_out", "class_embed", "logit")
    return parameter.requires_grad and parameter.ndim >= 2 and not any(word in name for word in outer)
