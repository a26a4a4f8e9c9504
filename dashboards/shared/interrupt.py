"""Stop a running pipeline promptly, whatever it is doing: between any two torch calls of this thread."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

GIVES_BACK = (torch._C._set_grad_enabled,)  # on the way out a pipeline switches gradients on again: that is let by


class Interruptible(TorchFunctionMode):
    """Inside the block, `check` is called before every torch function of this thread and may raise."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in GIVES_BACK:
            self._check()
        return func(*args, **(kwargs or {}))
