"""The contestants of bench_record: ways to generate, each with what it keeps of the attention."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from diffusers.models.attention_dispatch import attention_backend
from diffusers.models.attention_processor import AttnProcessor

import probe
from probe.axes import STEP

PROMPT = "a red cat and a blue dog in the snow"
WORDS = ("red", "cat", "blue", "dog", "snow")
MAPS, TIME = ("attention", "heads"), "time"  # nodes with maps; the axis of the latents, one more than steps
EVERY = ("a", "red", "cat", "and", "a#2", "blue", "dog", "in", "the", "snow")

Draw = Callable[[], torch.Tensor]


class Weight(NamedTuple):
    """Bytes of maps, how many layers have some, and bytes of whatever else was kept; `once`: of these, what does not
    grow with the steps.
    """

    maps: int
    layers: int
    rest: int = 0
    once: int = 0


@dataclass(frozen=True)
class Contestant:
    """One way to generate. `run` gives the latents and what was recorded, `weigh` what that weighs."""

    name: str
    run: Callable[[Any, Draw], tuple[torch.Tensor, Any]]
    weigh: Callable[[Any], Weight]
    needs: str = ""  # a module that has to be importable
    bar: float | None = None  # the time ratio that it should not exceed


def plain(pipe: Any, draw: Draw) -> tuple[torch.Tensor, Any]:
    """Generation alone: its ratio is the noise of the measurement."""
    return draw(), None


def recorded(**options: Any) -> Callable[[Any, Draw], tuple[torch.Tensor, Any]]:
    """Generation inside `probe.record`."""

    def run(pipe: Any, draw: Draw) -> tuple[torch.Tensor, Any]:
        with probe.record(pipe, **options) as recording:
            latents = draw()
        return latents, recording.trace

    return run


def weigh_trace(trace: probe.Trace) -> Weight:
    """The rest is latents, predicted x0 of each branch, guidance, scheduler: no rival keeps these."""
    sites = {
        str(site)
        for node in trace.attention_nodes()
        for site in node["site"].values
        if np.isfinite(node["attention"].sel(site=site)).any()
    }
    kept = [trace.tree[name] for name in MAPS if name in trace.tree.children]
    maps = sum(values.nbytes for part in kept for node in part.subtree for values in node.data_vars.values())
    rest = trace.nbytes - maps
    every = sum(growing(values) for node in trace.tree.subtree for values in node.variables.values())
    of_maps = sum(growing(values) for part in kept for node in part.subtree for values in node.data_vars.values())
    return Weight(maps, len(sites), rest, rest - (every - of_maps))


def growing(values: xr.Variable | xr.DataArray) -> int:
    """Bytes that grow with the steps: all that has steps, and of the latents all but those before the first one."""
    times = values.sizes.get(TIME, 1)
    return values.nbytes if STEP in values.dims else values.nbytes // times * (times - 1)


def eager(pipe: Any, draw: Draw) -> tuple[torch.Tensor, Any]:
    """The attention that writes its probabilities out: the eager processor, or the backend that does the same."""
    if not hasattr(pipe, "unet"):
        with attention_backend("_native_math"):
            return draw(), None
    before = pipe.unet.attn_processors
    pipe.unet.set_attn_processor(AttnProcessor())
    try:
        return draw(), None
    finally:
        pipe.unet.set_attn_processor(before)


def attention_map_diffusers(**options: Any) -> Callable[[Any, Draw], tuple[torch.Tensor, Any]]:
    """Generation inside attention-map-diffusers' capture, with its maps computed."""

    def run(pipe: Any, draw: Draw) -> tuple[torch.Tensor, Any]:
        rival = importlib.import_module("attention_map_diffusers")
        with rival.AttentionCapture(pipe, timesteps="all", max_capture_bytes=None, **options) as capture:
            latents = draw()
        return latents, list(capture.compute())

    return run


def weigh_records(records: Sequence[Any]) -> Weight:
    tensors = [value for r in records for value in (r.data, r.q, r.k) if isinstance(value, torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return Weight(sum(storages.values()), len({r.layer_id for r in records if r.data is not None}))


def daam(pipe: Any, draw: Draw) -> tuple[torch.Tensor, Any]:
    """Generation inside DAAM's trace, with its heat map computed."""
    with importlib.import_module("daam").trace(pipe) as trace:
        latents = draw()
        trace.compute_global_heat_map()
    return latents, list(trace.all_heat_maps)


def weigh_heat_maps(heat_maps: Sequence[Any]) -> Weight:
    return Weight(sum(tensor.nbytes for _, tensor in heat_maps), len({layer for (_, layer, _), _ in heat_maps}))


def nothing(held: Any) -> Weight:
    return Weight(0, 0)


RIVAL = "attention_map_diffusers"
CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("plain", plain, nothing),
        Contestant("probe, five words", recorded(words=WORDS), weigh_trace, bar=1.05),
        Contestant("probe, head means", recorded(words=EVERY, keep="maps"), weigh_trace, bar=1.10),
        Contestant("probe, all heads", recorded(words=EVERY, keep="full", budget=2**40), weigh_trace, bar=1.25),
        Contestant("diffusers, eager", eager, nothing),
        Contestant("AMD exact, head means", attention_map_diffusers(mode="exact"), weigh_records, RIVAL),
        Contestant("AMD exact, all heads", attention_map_diffusers(mode="exact", heads="all"), weigh_records, RIVAL),
        Contestant("AMD fast, head means", attention_map_diffusers(mode="fast"), weigh_records, RIVAL),
        Contestant("DAAM", daam, weigh_heat_maps, "daam"),
    )
}
