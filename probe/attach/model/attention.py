"""Which modules of a model are attention layers, and how they are called in a trace."""

import re
from collections.abc import Mapping

from torch import nn

QUERIES = re.compile("(^|_)(q|qkv|query)(_|$)")  # in the names of the parts of an attention that project queries


def attention_modules(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Path -> module of every attention layer: those that own a processor and project queries."""
    return {
        path: module
        for path, module in denoiser.named_modules()
        if hasattr(module, "processor") and any(QUERIES.search(name) for name, _ in module.named_children())
    }


def named_attention(denoisers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The same of all denoisers of a pipeline, each path after its denoiser's name: "unet.mid_block...attn2"."""
    return {
        f"{name}.{path}": part
        for name, denoiser in denoisers.items()
        for path, part in attention_modules(denoiser).items()
    }
