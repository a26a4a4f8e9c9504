"""Which sites a denoiser has, found by one pass over shapes alone: no weights, no numbers, none of its hooks."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.kept.attention import AttentionReader, Pass
from probe.attach.model.families import Family
from probe.attach.waist import Call, Waist, attention_modules
from probe.site import Site

Given = Mapping[str, Any]
Known = dict[tuple[Any, ...], tuple[Site, ...]]

_known: "weakref.WeakKeyDictionary[nn.Module, Known]" = weakref.WeakKeyDictionary()


def known_sites(module: nn.Module, current: Pass, wanted: tuple[str, ...]) -> tuple[Site, ...] | None:
    """The sites that an earlier pass of these weights with these shapes has shown."""
    return _known.get(module, {}).get(_key(current, wanted))


def remember(module: nn.Module, current: Pass, wanted: tuple[str, ...], sites: tuple[Site, ...]) -> None:
    """These weights with these shapes have these sites."""
    _known.setdefault(module, {})[_key(current, wanted)] = sites


def _key(current: Pass, wanted: tuple[str, ...]) -> tuple[Any, ...]:
    return current.plane, current.text, current.texts, len(current.rows), wanted


def survey(
    module: nn.Module, given: Given, current: Pass, family: Family, *, wants: Callable[[str], bool]
) -> tuple[Site, ...] | None:
    """The sites with words that a pass with these arguments would read, or None where shapes alone do not tell.

    The pass runs on an empty twin of the module, built from its config; a model that looks at numbers on its way (how
    much of the text is padding, say) cannot be run so.
    """
    scout = AttentionReader(family)
    waist = Waist(lambda call, lse: scout.read(call, None, current), wants, _blank)
    try:
        twin = _twin(module)
        parts = {f"{current.denoiser}.{path}": part for path, part in attention_modules(twin).items()}
        with waist.on(parts), torch.no_grad():
            twin(**{name: _shape(value) for name, value in given.items()})
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None
    return scout.sites()


def _twin(module: Any) -> nn.Module:
    """A module of the same config whose weights are shapes."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        twin = type(module).from_config(module.config)
    return nn.Module.to(twin, module.dtype).eval()  # without the warning of diffusers about mixed precision


def _blank(call: Call) -> Tensor:
    return call.q.new_empty(*call.q.shape[:-1], call.v.shape[-1])


def _shape(value: Any) -> Any:
    """Tensors as shapes."""
    if isinstance(value, Tensor):
        return value.detach().to("meta")
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    return type(value)(map(_shape, value)) if type(value) in (list, tuple) else value
