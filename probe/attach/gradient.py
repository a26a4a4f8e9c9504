"""Maps of words with a gradient: one forward pass of the denoiser that ends at the last site it needs.

A loss over maps does not depend on what comes after them, so the pass is left there by raising a private signal; the
graph up to that point is whole. Weights need no gradient and are switched off meanwhile.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.waist import Call, Waist, attention_modules, scores


class _Enough(Exception):
    """All maps have been read; the rest of the pass is not needed."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A cross-attention site as a gradient pass met it."""

    path: str
    cells: int


@dataclass
class GradientPass:
    """Runs the denoiser with a gradient to its input. The first pass goes to the end and learns what there is."""

    module: nn.Module
    text: int  # length of the sequence of text states
    layers: list[Layer] = field(default_factory=list)
    chosen: tuple[str, ...] = ()

    def survey(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Layer]:
        """All layers that attend to the text, in the order in which they run."""
        self.layers = []

        def read(call: Call, lse: Tensor | None) -> None:
            if call.columns == self.text and call.rank == 0 and not call.path.endswith("attn1"):
                self.layers.append(Layer(call.path, call.rows))

        with torch.no_grad(), _watching(Waist(read, lambda path: True), self.module):
            self.module(*args, **kwargs)
        return self.layers

    def choose(self, cells: int) -> None:
        """Read the layers of one grid from now on."""
        self.chosen = tuple(layer.path for layer in self.layers if layer.cells == cells)

    def maps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """[b, cells, token]: the mean over the chosen layers and their heads, with a graph to the input."""
        found: dict[str, Tensor] = {}

        def change(call: Call) -> Tensor | None:
            if call.path in self.chosen and call.columns == self.text:
                everything = torch.arange(call.columns, device=call.q.device)
                found[call.path] = scores(call, slice(None), everything).softmax(-1)
                if len(found) == len(self.chosen):
                    raise _Enough
            return None

        with _watching(Waist(lambda call, lse: None, self.chosen.__contains__, change), self.module), suppress(_Enough):
            self.module(*args, **kwargs)
        return torch.cat(list(found.values()), dim=1).mean(1)


@contextmanager
def _watching(waist: Waist, module: nn.Module) -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(waist.begin_pass)
        for path, part in attention_modules(module).items():
            for handle in waist.hooks(part, path):
                stack.callback(handle.remove)
        yield


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """Parameters ask for no gradient inside; each gets its own setting back."""
    borrowed = [p for p in module.parameters() if p.requires_grad]
    try:
        for parameter in borrowed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in borrowed:
            parameter.requires_grad_(True)
