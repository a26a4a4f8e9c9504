"""What recording computes keeps its types inside `torch.autocast`, and the model's calls keep theirs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

DEVICES = ("cpu", "cuda", "mps")


@contextmanager
def own_precision() -> Iterator[None]:
    """Inside, and in a function that it decorates, no product is lowered by an autocast that the caller works under."""
    with ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def lowered(x: Tensor) -> Tensor:
    """What an attention kernel is given for `x` under the autocast that is on, which lowers all but float64."""
    device = x.device.type
    floats = x.is_floating_point() and x.dtype != torch.float64
    if not floats or device not in DEVICES or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))
