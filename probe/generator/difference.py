"""Weights as a difference from others: one byte a number, with a scale for every output channel.

Two sets of weights of which one was trained on from the other differ little, so the rounding (at most 1/254 of a
channel's largest difference) is far below what half precision does to the weights themselves.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

LEVELS = 127
SCALE = ":scale"

State = Mapping[str, Tensor]


def difference(state: State, base: State) -> dict[str, Tensor]:
    """What `applied` adds to `base` to give `state`: int8 values, and float32 scales under "NAME:scale"."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        rows = (value.float() - base[name].float()).reshape(len(value) if value.ndim > 1 else 1, -1)  # [channel, n]
        scale = rows.abs().amax(1) / LEVELS
        packed[name] = (rows / scale.clamp(min=1e-30)[:, None]).round().to(torch.int8).reshape(value.shape)
        packed[name + SCALE] = scale
    return packed


def applied(packed: State, base: State) -> dict[str, Tensor]:
    """The weights that a packed difference stands for, float32."""
    return {name: _one(packed[name], packed[name + SCALE], value.float()) for name, value in base.items()}


def _one(steps: Tensor, scale: Tensor, base: Tensor) -> Tensor:
    rows = steps.float().reshape(len(scale), -1) * scale.float()[:, None]
    return base + rows.reshape(base.shape)
