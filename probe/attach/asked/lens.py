"""A lens on the text encoder: what the prompt would be read as if the encoder ended after fewer of its layers.

The blocks behind a layer let their input pass, so the state after it goes through what comes last in the encoder (the
final norm, the projection) and is used as the pipeline uses it. After Toker et al., "Diffusion Lens" (2024). The empty
prompt is read just as briefly, so guidance compares two texts of the same depth. A layer that shows nothing may hold
what later layers need and the denoiser was never taught to read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.attach.borrow import here
from probe.attach.kept.states import stacks
from probe.attach.record import record
from probe.axes import X, Y
from probe.errors import BadInput, NoMatch, NotRecorded
from probe.trace import Trace

SIDE = 256  # pixels of the pictures that a trace keeps of a lens


def lens(
    pipe: Any,
    prompt: str,
    layers: Sequence[int] | None = None,
    *,
    encoder: str = "text_encoder",
    seed: int = 0,
    **call: Any,
) -> dict[int, Trace]:
    """Traces of the pipeline's own runs from one seed, by the number of the encoder's layers that read the prompt.

    `layers`: None are all depths, 0 (the embeddings alone) to the whole encoder, which is the pipeline as it is;
    negative ones count from the end. Other encoders read in full. `call` goes to the pipeline.
    Raises NoMatch, BadInput.
    """
    blocks = blocks_of(pipe, encoder)
    depths = range(len(blocks) + 1) if layers is None else layers
    outside = [depth for depth in depths if not -len(blocks) <= depth <= len(blocks)]
    if outside:
        raise NoMatch(f"layers={list(depths)}: {encoder} has {len(blocks)} layers, so there are 0 to {len(blocks)}")
    whole = [depth if depth >= 0 else depth + len(blocks) for depth in depths]
    return {depth: _run(pipe, prompt, (encoder, depth), seed, call) for depth in dict.fromkeys(whole)}


def _run(pipe: Any, prompt: str, place: tuple[str, int], seed: int, call: dict[str, Any]) -> Trace:
    encoder, depth = place
    with shortened(blocks_of(pipe, encoder), depth), record(pipe) as recording:
        pipe(prompt=prompt, generator=torch.Generator("cpu").manual_seed(seed), **call)
    trace = recording.trace
    whole = len(blocks_of(pipe, encoder))
    return replace(trace, extra=trace.extra | {"lens": {"encoder": encoder, "layer": depth, "layers": whole}})


def with_lens(trace: Trace, found: Mapping[int, Trace]) -> Trace:
    """The trace with the pictures of a lens, small, as node /lens: what the report and the dashboard show.

    Raises BadInput where there are none, NotRecorded where they were not decoded.
    """
    if not found:
        raise BadInput("there are no traces of a lens; give what probe.lens returned")
    told = next(iter(found.values())).extra["lens"]
    if not all(each.pictures for each in found.values()):
        raise NotRecorded("the traces of this lens hold no pictures; let the pipeline return PIL images (output_type)")
    pictures = [each.pictures[0].convert("RGB") for each in found.values()]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE))
    pixels = np.stack([np.asarray(picture) for picture in pictures])  # [layer, y, x, rgb]
    held = xr.Dataset({"pictures": (("layer", Y, X, "rgb"), pixels)}, {"layer": list(found)})
    nodes = {path: node.to_dataset(inherit=False) for path, node in trace.tree.subtree_with_keys}
    nodes["lens"] = held.assign_attrs(encoder=told["encoder"], layers=told["layers"])
    return replace(trace, tree=xr.DataTree.from_dict(nodes))


def blocks_of(pipe: Any, encoder: str) -> nn.ModuleList:
    """The blocks of one of the pipeline's encoders. Raises BadInput, listing the encoders."""
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    held = {name: part for name, part in modules.items() if "text_encoder" in name and stacks(part)}
    if encoder not in held:
        raise BadInput(f"encoder={encoder!r}: this pipeline has {', '.join(held) or 'no text encoder with layers'}")
    return max(stacks(held[encoder]), key=len)


@contextmanager
def shortened(blocks: nn.ModuleList, depth: int) -> Iterator[None]:
    """The blocks behind the first `depth` ones hand on what they are given, in this thread."""
    handles = [block.register_forward_hook(here(_pass_on), with_kwargs=True) for block in blocks[depth:]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pass_on(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return (states, *output[1:]) if isinstance(output, tuple) else states
