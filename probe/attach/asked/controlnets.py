"""What runs before the denoiser and reads the prompt too: the ControlNets, whose outputs the denoiser is given.

Where another text is put in, they must read it as well, or their outputs still say the prompt's words. They are told
it as they are called; a pass beside the pipeline's own runs them again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from probe.attach.borrow import by_name, here
from probe.errors import BadInput

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Lead:
    """One call of a ControlNet: its arguments by name, and the tensors that it gave."""

    module: nn.Module
    given: Arguments
    gave: list[Tensor]

    def led(self, given: Mapping[str, Any], told: Arguments) -> Arguments:
        """Those of the denoiser's arguments that come from this call, as it gives them when told otherwise.

        Raises BadInput where they are not handed on as they were given.
        """
        names = [name for name, value in given.items() if _own(value, self.gave)]
        if not names:
            raise BadInput(
                f"the output of {type(self.module).__name__} is changed before the denoiser reads it, so it cannot run "
                "again with another text: leave guess_mode off, or use a pipeline without a ControlNet"
            )
        again = tensors(self.module.forward(**told))
        return {name: _put(given[name], self.gave, again) for name in names}


@dataclass
class Leads:
    """The ControlNets of a pipeline, and how each was called last."""

    calls: dict[str, Lead] = field(default_factory=dict)

    def hooks(self, pipe: Any, tell: Callable[[Arguments], Arguments]) -> Iterator[Any]:
        """Two hooks a ControlNet: `tell` may change its arguments before it runs. Yields their handles."""
        for name, module in getattr(pipe, "components", {}).items():
            if name.startswith("controlnet") and isinstance(module, nn.Module):
                yield module.register_forward_pre_hook(here(self._before(tell)), with_kwargs=True)
                yield module.register_forward_hook(here(self._after(name)), with_kwargs=True)

    def _before(self, tell: Callable[[Arguments], Arguments]) -> Any:
        def told(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> Any:
            return (), tell(by_name(module.forward, args, kwargs))

        return told

    def _after(self, name: str) -> Any:
        def ran(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments, output: Any) -> None:
            self.calls[name] = Lead(module, by_name(module.forward, args, kwargs), tensors(output))

        return ran


def tensors(value: Any) -> list[Tensor]:
    """All tensors of an output, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def _own(value: Any, gave: list[Tensor]) -> bool:
    """Whether a value is made of these very tensors."""
    found = tensors(value)
    return bool(found) and all(any(tensor is one for one in gave) for tensor in found)


def _put(value: Any, gave: list[Tensor], again: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return again[next(i for i, one in enumerate(gave) if one is value)]
    return type(value)(_put(part, gave, again) for part in value)
