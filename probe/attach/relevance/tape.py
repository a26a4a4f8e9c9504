"""The tape of a forward pass with a graph: what its attention, and a U-Net's skips and scales, did to the cells."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from probe.attach.borrow import here
from probe.attach.text.text_calls import changing
from probe.attach.waist import Call, plain


@dataclass(slots=True)
class Event:
    """Something that the forward pass did to the plane of cells, in order."""

    kind: str  # "attend", "push" (a skip connection is kept), "pop" (one is joined), "resize"
    call: Call | None = None
    tensor: Tensor | None = None  # the output of "attend", the joined input of "pop"
    channels: int = 0  # of the skip, for "pop"
    grid: tuple[int, int] = (0, 0)  # after "resize"


@dataclass
class Tape:
    """The events of one forward pass of one row."""

    events: list[Event] = field(default_factory=list)
    _channels: list[int] = field(default_factory=list)  # of the skips that are kept

    def attend(self, call: Call) -> Tensor:
        """Run the call with a graph and note it."""
        out = plain(call)
        self.events.append(Event("attend", call, out))
        return out

    def tensors(self) -> list[Tensor]:
        """All tensors whose gradient the rules need."""
        return [event.tensor for event in self.events if event.tensor is not None]

    def push(self, module: nn.Module, args: Any, output: Any) -> None:
        """A plane is kept for later."""
        value = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        self._channels.append(value.shape[1])
        self.events.append(Event("push"))

    def resize(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """The plane goes to another grid."""
        self.events.append(Event("resize", grid=(output.shape[-2], output.shape[-1])))

    def pop(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """The last plane that was kept is joined."""
        self.events.append(Event("pop", tensor=args[0], channels=self._channels.pop()))


@contextmanager
def taping(module: nn.Module, tape: Tape) -> Iterator[None]:
    """Hooks that write the tape: on attention, and where a U-Net keeps, joins and resizes planes."""
    with ExitStack() as stack:
        stack.enter_context(changing(module, tape.attend))
        for handle in _unet_hooks(module, tape):
            stack.callback(handle.remove)
        yield


def _unet_hooks(unet: Any, tape: Tape) -> Iterator[Any]:
    """What happens to the plane between attention layers; nothing for a transformer, whose cells stay in place."""
    if not hasattr(unet, "down_blocks"):
        return
    yield unet.conv_in.register_forward_hook(here(tape.push))
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", None)
        for part in attentions if attentions is not None else block.resnets:
            yield part.register_forward_hook(here(tape.push))
        for part in block.downsamplers or []:
            yield part.register_forward_hook(here(tape.resize))
            yield part.register_forward_hook(here(tape.push))
    for block in unet.up_blocks:
        for part in block.resnets:
            yield part.register_forward_pre_hook(here(tape.pop))
        for part in block.upsamplers or []:
            yield part.register_forward_hook(here(tape.resize))


def values(call: Call) -> Tensor:
    """[b, h, m, d]: the values, repeated over grouped heads."""
    groups = call.heads // call.v.shape[-3]
    return call.v.repeat_interleave(groups, dim=-3) if groups > 1 else call.v
