"""Compiled models: torch runs them without the hooks that were put on afterwards, so they would show nothing."""

from typing import Any

import torch
from torch import nn

from probe.errors import RecordingError

WATCHED = ("unet", "transformer", "text_encoder")


def plain(module: Any) -> Any:
    """The module inside of what `torch.compile(module)` returned; any other as it is."""
    return getattr(module, "_orig_mod", module)


def check_runs_plainly(pipe: Any) -> None:
    """Raises RecordingError where what is watched is compiled and torch has not been told to run it plainly."""
    parts = getattr(pipe, "components", {})
    watched = {name: part for name, part in parts.items() if name.startswith(WATCHED) and isinstance(part, nn.Module)}
    found = [f"{name}.{path}".rstrip(".") for name, part in watched.items() for path in _compiled(part)]
    if found and _compiles():
        raise RecordingError(
            f"{', '.join(found[:4])} {'is' if len(found) == 1 else 'are'} compiled, and a compiled model runs without "
            'the hooks that record: record inside `with torch.compiler.set_stance("force_eager"):`'
        )


def _compiled(module: nn.Module) -> list[str]:
    """Paths of the compiled parts, in each of the ways in which torch compiles."""
    return [
        path
        for path, part in module.named_modules()
        if "_orig_mod" in part._modules
        or part._compiled_call_impl is not None
        or hasattr(vars(part).get("forward"), "_torchdynamo_orig_callable")
    ]


def _compiles() -> bool:
    """Whether torch compiles at present: a small function is asked, for torch names its stance to nobody."""
    asked = torch.compile(lambda x: x + torch.compiler.is_compiling(), backend="eager")
    return bool(asked(torch.zeros(())))
