"""Hidden states of the text encoders, layer by layer.

Hooks on an encoder's blocks see what goes into the first and what comes out of each. Asking the encoder itself
(`output_hidden_states=True`) would leave hooks of the library on it for good.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.attach.borrow import by_name, here
from probe.attach.text.hearing import Encoded, rows_first
from probe.axes import BRANCH, CHANNEL, LAYER, PROMPT, TOKEN
from probe.errors import NoMatch, RecordingError

Layers = bool | Sequence[int]


@dataclass(frozen=True, slots=True)
class Depth:
    """One row that an encoder read: states [layer, token, channel], and the last ones as it gave them, if it did."""

    layers: tuple[int, ...]
    states: Tensor
    output: Tensor | None


@dataclass
class Depths:
    """The rows of one generation, by encoder, in the order in which they were read: prompts, then the other branch."""

    rows: dict[str, list[Depth]] = field(default_factory=dict)

    def note(self, rows: Mapping[str, Sequence[Depth]]) -> None:
        """Take what one call of the encoders showed."""
        for encoder, own in rows.items():
            self.rows.setdefault(encoder, []).extend(own)

    def nodes(self, encoded: Encoded) -> dict[str, xr.Dataset]:
        """A node an encoder; NaN where a row is shorter than others."""
        return {f"/text/{encoder}": _node(encoder, rows, encoded) for encoder, rows in self.rows.items()}

    def projected(self, encoded: Encoded) -> int:
        """Bytes of the nodes."""
        return sum(_bytes(rows, encoded) for rows in self.rows.values())


class DepthReader:
    """Hooks on the blocks of every text encoder; layer 0 are the embeddings, layer i the states after block i."""

    def __init__(self, encoders: Mapping[str, nn.Module], layers: Layers):
        self._encoders, self._layers = dict(encoders) if layers else {}, layers
        self._seen: dict[nn.Module, list[Tensor]] = defaultdict(list)  # by list of blocks
        self.rows: dict[str, list[Depth]] = defaultdict(list)

    def hooks(self) -> Iterator[Any]:
        """Put the hooks on; yields their handles."""
        for name, encoder in self._encoders.items():
            yield encoder.register_forward_pre_hook(here(lambda *_: self._seen.clear()))
            for blocks in stacks(encoder):
                yield blocks[0].register_forward_pre_hook(here(self._enter(blocks)), with_kwargs=True)
                for block in blocks:
                    yield block.register_forward_hook(here(self._leave(blocks)))
            yield encoder.register_forward_hook(here(self._after(name)), with_kwargs=True)

    def take(self) -> dict[str, list[Depth]]:
        """What was read since the last time, by encoder."""
        rows, self.rows = dict(self.rows), defaultdict(list)
        return rows

    def _enter(self, blocks: nn.ModuleList) -> Any:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._seen[blocks] = [_first((*args, *kwargs.values()))]

        return enter

    def _leave(self, blocks: nn.ModuleList) -> Any:
        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._seen[blocks].append(_first(output))

        return leave

    def _after(self, name: str) -> Any:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if not self._seen:
                raise RecordingError(
                    f"text_states: no blocks of {name} ({type(module).__name__}) were seen to run; leave it out"
                )
            deepest = max(self._seen.values(), key=len)
            layers = self._chosen(name, len(deepest))
            ids = by_name(module.forward, args, kwargs).get("input_ids")
            chosen = torch.stack([rows_first(deepest[i], ids) for i in layers], dim=1)  # [b, layer, t, c]
            last = getattr(output, "last_hidden_state", None)
            given = [None] * len(chosen) if last is None else [_narrow(row) for row in rows_first(last, ids)]
            self.rows[name] += [Depth(layers, _narrow(row), own) for row, own in zip(chosen, given, strict=True)]
            self._seen.clear()

        return after

    def _chosen(self, name: str, count: int) -> tuple[int, ...]:
        if isinstance(self._layers, bool):
            return tuple(range(count))
        outside = [layer for layer in self._layers if not -count <= layer < count]
        if outside:
            raise NoMatch(f"text_states={list(self._layers)}: {name} has the layers 0 to {count - 1}")
        return tuple(sorted({layer % count for layer in self._layers}))


def stacks(encoder: nn.Module) -> list[nn.ModuleList]:
    """The lists of blocks of an encoder, without those that lie inside of blocks."""
    lists = {path: part for path, part in encoder.named_modules() if isinstance(part, nn.ModuleList) and len(part)}
    return [part for path, part in lists.items() if not any(path.startswith(f"{other}.") for other in lists)]


def _first(values: Any) -> Tensor:
    """The first tensor: the states, in every block's arguments and results."""
    parts = (values,) if isinstance(values, Tensor) else values
    return next(value for value in parts if isinstance(value, Tensor)).detach()


def _narrow(x: Tensor) -> Tensor:
    """float16, or float32 where that cannot hold the values."""
    half = x.detach().half()
    return half if bool(torch.isfinite(half).all()) else x.detach().float()


def _node(encoder: str, rows: Sequence[Depth], encoded: Encoded) -> xr.Dataset:
    """What an encoder's rows were by branch and prompt, with the ids that it read."""
    sizes = _sizes(rows, encoded)
    front, behind = (BRANCH, PROMPT), (TOKEN, CHANNEL)
    heard = [torch.tensor(row.ids)[:, None] for row in encoded.heard if row.encoder == encoder]
    outputs = [row.output for row in rows if row.output is not None]
    variables: dict[str, Any] = {
        "states": ((*front, LAYER, *behind), _table([row.states for row in rows], sizes, np.nan)),
        **({"output": ((*front, *behind), _table(outputs, sizes, np.nan))} if len(outputs) == len(rows) else {}),
        **({"ids": ((*front, TOKEN), _table(heard, sizes, -1)[..., 0])} if len(heard) == len(rows) else {}),
    }
    branches = ["cond", encoded.other][: sizes[0]]
    return xr.Dataset(variables, coords={BRANCH: branches, LAYER: list(rows[0].layers)})


def _sizes(rows: Sequence[Depth], encoded: Encoded) -> tuple[int, int]:
    """(branches, prompts) of an encoder's rows."""
    prompts = max(1, len(encoded.prompts))
    return min(2, -(-len(rows) // prompts)), prompts


def _table(parts: Sequence[Tensor], sizes: tuple[int, int], nothing: float) -> np.ndarray:
    """[..., t, c] each -> [branch, prompt, ..., t, c], filled up to the longest."""
    found = [part.cpu().numpy() for part in parts[: sizes[0] * sizes[1]]]
    *before, _, channels = found[0].shape
    shape = (*before, max(part.shape[-2] for part in found), channels)
    table = np.full(
        (sizes[0] * sizes[1], *shape), nothing, max((part.dtype for part in found), key=lambda d: d.itemsize)
    )
    for row, part in zip(table, found, strict=False):
        row[..., : part.shape[-2], :] = part
    return table.reshape(*sizes, *shape)


def _bytes(rows: Sequence[Depth], encoded: Encoded) -> int:
    """Bytes of the node."""
    branches, prompts = _sizes(rows, encoded)
    layers, _, channels = rows[0].states.shape
    tokens = max(row.states.shape[1] for row in rows)
    width = max(row.states.element_size() for row in rows)
    return branches * prompts * tokens * (width * channels * (layers + (rows[0].output is not None)) + 8)
