"""All that a recording might leave behind on a pipeline, to compare before and after."""

import hashlib
import random
import threading
from typing import Any

import torch
from torch import nn

from probe.attach.borrow import lease
from probe.errors import AlreadyRecording

HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith(("_hooks", "_hooks_with_kwargs", "_always_called")))


def fingerprint(pipe: Any) -> dict[str, object]:
    """Hooks, attributes, processors, methods, flags, weights, settings, random states, modes and leases."""
    parts = modules_of(pipe)
    modules = [module for part in parts for module in part.modules()]
    owners = (pipe, pipe.scheduler, *(o for o in (getattr(pipe, n, None) for n in PROCESSORS) if o is not None))
    return {
        "hooks": [[tuple(vars(module)[name]) for name in HOOKS] for module in modules],
        "attributes": [sorted(vars(module)) for module in modules],
        "processors": [id(getattr(module, "processor", None)) for module in modules],
        "training": [module.training for module in modules],
        "gradients": [(p.requires_grad, p.grad is None) for part in parts for p in part.parameters()],
        "weights": digest([*(p for part in parts for p in part.state_dict().values())]),
        "methods": [sorted(name for name, value in vars(owner).items() if callable(value)) for owner in owners],
        "names": sorted(vars(pipe)),
        "settings": [dict(pipe.scheduler.config), dict(pipe.config)],
        "random": (digest([torch.random.get_rng_state()]), random.getstate()),
        "modes": (torch._C._len_torch_function_stack(), torch.is_grad_enabled(), torch.get_default_dtype()),
        "leases": [free(part) for part in parts],
    }


def modules_of(pipe: Any) -> list[nn.Module]:
    """A pipeline's parts that have weights."""
    return [part for part in pipe.components.values() if isinstance(part, nn.Module)]


def hooks(*parts: nn.Module) -> int:
    """How many forward hooks are on some modules and all in them."""
    every = (module for part in parts for module in part.modules())
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in every)


PROCESSORS = ("image_processor", "video_processor")


def digest(tensors: list[torch.Tensor]) -> str:
    """A hash of all bytes."""
    whole = hashlib.blake2b()
    for tensor in tensors:
        whole.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def free(weights: nn.Module) -> bool:
    """Whether another thread could record these weights now."""
    got: list[bool] = []

    def attempt() -> None:
        try:
            with lease(weights):
                got.append(True)
        except AlreadyRecording:
            got.append(False)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return got[0]
