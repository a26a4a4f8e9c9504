"""Weights that move, that are packed or compiled: read as ever, or refused with the remedy."""

from collections.abc import Callable, Iterator
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import AttnProcessor

import probe
from probe.attach.model.compiled import check_runs_plainly, plain
from probe.errors import MissingReadings, RecordingError
from probe.trace import Trace
from tests import pipelines
from tests.fingerprint import HOOKS

CPU = torch.device("cpu")
Change = Callable[[Any], Any]


def denoiser(pipe: Any) -> Any:
    """The part that denoises."""
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer


def taken(pipe: Any, family: str) -> tuple[np.ndarray, Trace]:
    """The picture and the trace of a recording."""
    with probe.record(pipe, words=["cat", "balloon"]) as recording:
        picture = pipelines.run(pipe, family)
    return picture, recording.trace


def hooks(pipe: Any) -> list[list[tuple[int, ...]]]:
    """All hooks on the denoiser; its weights may be elsewhere, so there is no hash of them."""
    return [[tuple(vars(module)[name]) for name in HOOKS] for module in denoiser(pipe).modules()]


def largest(one: Trace, other: Trace) -> float:
    """The largest difference of their maps, which are of the same sites."""
    assert [site.path for site in one.sites] == [site.path for site in other.sites]
    pairs = zip(one.attention_nodes(), other.attention_nodes(), strict=True)
    return max(float(np.abs(a["attention"].values - b["attention"].values).max()) for a, b in pairs)


# Weights that move: accelerate's and diffusers' own hooks, which run on any device.

MOVES: dict[str, Change] = {
    "whole models": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "layer by layer": lambda pipe: accelerate.cpu_offload(denoiser(pipe), execution_device=CPU),
    "groups of blocks": lambda pipe: denoiser(pipe).enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_type="block_level", num_blocks_per_group=1
    ),
    "groups of leaves": lambda pipe: denoiser(pipe).enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_type="leaf_level"
    ),
}


@pytest.mark.parametrize("family", ["sd1", "flux1"])
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_weights_that_move_are_read_as_those_that_stay(family: str, move: Change):
    picture, still = taken(pipelines.pipeline(family), family)
    pipe = pipelines.load(family)
    move(pipe)
    assert np.array_equal(pipelines.run(pipe, family), picture)
    before = hooks(pipe)
    moved, trace = taken(pipe, family)
    assert np.array_equal(moved, picture)
    assert largest(trace, still) == 0.0
    assert trace.run.device == "cpu"
    assert hooks(pipe) == before


# Weights that are packed: their maps are those of what really runs, and the picture stays what it was.

PACKS: dict[str, Change] = {
    "stored in bfloat16": lambda pipe: denoiser(pipe).enable_layerwise_casting(
        storage_dtype=torch.bfloat16, compute_dtype=torch.float32
    ),
    "eight bits": lambda pipe: torch.ao.quantization.quantize_dynamic(denoiser(pipe), {torch.nn.Linear}, inplace=True),
    "recomputed for gradients": lambda pipe: denoiser(pipe).enable_gradient_checkpointing(),
}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("family", ["sd1", "flux1"])
@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_packed_weights_are_read_as_they_run(family: str, pack: Change):
    whole = taken(pipelines.pipeline(family), family)[1]
    pipe = pipelines.load(family)
    pack(pipe)
    picture = pipelines.run(pipe, family)
    recorded, trace = taken(pipe, family)
    assert np.array_equal(recorded, picture)
    assert largest(trace, whole) < 0.01


# Attention that goes another way


@pytest.fixture
def backend() -> Iterator[Callable[[Any, str], None]]:
    """Sets an attention backend, which diffusers remembers for the whole process; it is set back."""
    registry = attention_dispatch._AttentionBackendRegistry
    before = registry.get_active_backend()[0]
    yield lambda pipe, name: denoiser(pipe).set_attention_backend(name)
    registry.set_active_backend(before)


@pytest.mark.parametrize("name", ["native", "_native_math"])
def test_backends_of_the_torch_call_are_read(name: str, backend: Callable[[Any, str], None]):
    still = taken(pipelines.pipeline("flux1"), "flux1")[1]
    pipe = pipelines.load("flux1")
    backend(pipe, name)
    picture = pipelines.run(pipe, "flux1")
    recorded, trace = taken(pipe, "flux1")
    assert np.array_equal(recorded, picture)
    assert largest(trace, still) < 1e-6


@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
def test_a_backend_of_its_own_is_refused_with_the_remedy(backend: Callable[[Any, str], None]):
    pipe = pipelines.load("flux1")
    backend(pipe, "flex")
    with pytest.raises(MissingReadings, match=r"5 of 5 .* at step 0: .*set_attention_backend\(\"native\"\)"):
        taken(pipe, "flux1")
    backend(pipe, "native")
    assert len(taken(pipe, "flux1")[1].sites) == 5


def test_an_eager_processor_is_refused_with_the_remedy():
    pipe = pipelines.load("sd1")
    pipe.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(MissingReadings, match=r"14 of 14 .* at step 0: .*set_attn_processor\(AttnProcessor2_0\(\)\)"):
        taken(pipe, "sd1")


CACHES = {
    "of blocks": (FirstBlockCacheConfig(threshold=0.9), r"of 5 .* at step 1: .*They did before: .*disable_cache\(\)"),
    "of attention": (
        PyramidAttentionBroadcastConfig(spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500),
        r"5 of 5 .* at step 1: .*They did before: .*disable_cache\(\)",
    ),
}


@pytest.mark.parametrize(("cache", "said"), CACHES.values(), ids=CACHES)
def test_caches_that_skip_attention_are_refused_with_the_remedy(cache: Any, said: str):
    pipe = pipelines.load("flux1")
    pipe.transformer.enable_cache(cache)
    with pytest.raises(MissingReadings, match=said):
        taken(pipe, "flux1")
    pipe.transformer.disable_cache()
    assert len(taken(pipe, "flux1")[1].sites) == 5


# Compiled models


def wrapped(pipe: Any) -> None:
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))


def forward(pipe: Any) -> None:
    denoiser(pipe).forward = torch.compile(denoiser(pipe).forward, backend="eager")


COMPILED: dict[str, Change] = {
    "in place": lambda pipe: denoiser(pipe).compile(backend="eager"),
    "in place, through autograd": lambda pipe: denoiser(pipe).compile(backend="aot_eager"),
    "wrapped": wrapped,
    "its forward": forward,
    "its blocks": lambda pipe: denoiser(pipe).compile_repeated_blocks(backend="eager"),
    "the text encoder": lambda pipe: pipe.text_encoder.compile(backend="eager"),
}


@pytest.mark.parametrize(("family", "how"), [*(("sd1", how) for how in COMPILED), ("flux1", "in place")])
def test_a_compiled_model_is_refused_before_the_run_and_read_when_it_runs_plainly(family: str, how: str):
    picture, still = taken(pipelines.pipeline(family), family)
    pipe = pipelines.load(family)
    COMPILED[how](pipe)
    with pytest.raises(RecordingError, match=r"compiled.*set_stance\(\"force_eager\"\)"), probe.record(pipe):
        raise AssertionError("the block ran")
    with torch.compiler.set_stance("force_eager"):
        plainly, trace = taken(pipe, family)
    assert np.array_equal(plainly, picture)
    assert largest(trace, still) == 0.0


def test_a_model_that_was_compiled_and_run_is_read_when_it_runs_plainly():
    pipe = pipelines.load("sd1")
    still = taken(pipe, "sd1")[1]
    pipe.text_encoder.compile(backend="eager")
    pipelines.run(pipe, "sd1")
    with torch.compiler.set_stance("force_eager"):
        assert largest(taken(pipe, "sd1")[1], still) == 0.0


def test_the_decoder_may_be_compiled():
    pipe = pipelines.load("sd1")
    pipe.vae.compile(backend="eager")
    check_runs_plainly(pipe)
    assert plain(pipe.vae) is pipe.vae


@pytest.fixture(autouse=True)
def compiled_afresh() -> Iterator[None]:
    """What one test compiled is no concern of the next."""
    yield
    torch._dynamo.reset()
