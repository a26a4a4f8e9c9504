"""Which sites a denoiser has, found by one pass over shapes alone: no weights, no numbers, none of its hooks."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.keeping import Kept
from probe.attach.kept.outputs import Chosen, OutputReader
from probe.attach.kept.passes import Pass
from probe.attach.model.attention import named_attention
from probe.attach.take import Take
from probe.attach.waist import Call, Waist
from probe.errors import OverBudget
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


@dataclass(frozen=True)
class Scouts:
    """Readers beside those of a take, which are shown shapes and count what the take's would hold."""

    attention: AttentionReader
    outputs: OutputReader

    @classmethod
    def of(cls, take: Take) -> "Scouts":
        """Scouts that look for what the take wants."""
        reader, kept = take.attention, Kept(take.attention.kept.wish)
        kept.plan(reader.kept.total)
        related = replace(reader.relations, held={}, sites={}, words={}, counts_only=True)
        attention = AttentionReader(reader.family, reader.branches, reader.lexicons, kept=kept, relations=related)
        return cls(attention, OutputReader(take.outputs.chosen, take.outputs.branches, take.outputs.limit))

    @property
    def further(self) -> bool:
        """Whether something is wanted beside words that shapes can tell of."""
        asked = self.attention.relations.asked.kinds or self.outputs.chosen
        return bool(asked) and not self.attention.family.inferred

    def at(self, current: Pass) -> Pass:
        """The pass as one of the first step that is read."""
        return replace(current, step=self.attention.kept.slots.labels[0])

    @contextmanager
    def on(self, twin: nn.Module, current: Pass, wants: Callable[[str], bool]) -> Iterator[None]:
        """As long as the block runs, the twin's passes are seen."""
        waist = Waist(lambda call, lse: self.attention.read(call, None, current), wants, _blank)
        parts = named_attention({current.denoiser: twin})
        with ExitStack() as stack:
            stack.enter_context(waist.on(parts))
            for one in self.outputs.chosen:
                name, _, path = one.path.partition(".")
                if name == current.denoiser:
                    look = partial(self._look, one, current)
                    stack.callback(twin.get_submodule(path).register_forward_hook(look).remove)
            yield

    def _look(self, one: Chosen, current: Pass, module: nn.Module, args: Any, output: Any) -> None:
        self.outputs.read(one, output, current, self.attention.kept)


def survey(
    module: nn.Module, given: Given, current: Pass, scouts: Scouts, *, wants: Callable[[str], bool]
) -> tuple[Site, ...] | None:
    """The sites with words that a pass with these arguments would read, or None where shapes alone do not tell.

    The pass runs on an empty twin of the module, built from its config; a model that looks at numbers on its way (how
    much of the text is padding, say) cannot be run so. Raises OverBudget where the scouts count too much.
    """
    try:
        twin = _twin(module)
        with scouts.on(twin, current, wants), torch.no_grad():
            twin(**{name: _shape(value) for name, value in given.items()})
            scouts.attention.read_waiting()
    except OverBudget:
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None
    return scouts.attention.sites()


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
