"""How much cheaper is our Attend-and-Excite than the diffusers port? Time per altered step, and memory, interleaved.

Both run the same prompt, seed and settings; every step is altered, none is refined, so that the ratio is that of one
gradient pass and one plain step. Memory is the largest sum of tensors saved for the backward pass.
`--shape sd15` builds a random U-Net of Stable Diffusion 1.5's shape at 64 x 64 latents (minutes on two cores).
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionAttendAndExcitePipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from rich.console import Console
from rich.table import Table
from transformers import CLIPTextConfig, CLIPTextModel

import probe
from probe.nurse import AttendAndExcite

PROMPT, SUBJECTS, POSITIONS = "a cat and a dog", ("cat", "dog"), [2, 5]


def sd15_shaped() -> StableDiffusionPipeline:
    """Menagerie's autoencoder and tokenizer around a random U-Net of Stable Diffusion 1.5's shape."""
    pipe = probe.load()
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    text = CLIPTextConfig(
        vocab_size=len(pipe.tokenizer),
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=2,
        num_attention_heads=12,
    )
    parts = {**pipe.components, "unet": unet, "text_encoder": CLIPTextModel(text)}
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def port_of(pipe: StableDiffusionPipeline) -> Any:
    """The deprecated pipeline of diffusers, around the same parts."""
    names = ("vae", "text_encoder", "tokenizer", "unet")
    port = StableDiffusionAttendAndExcitePipeline(
        **{name: getattr(pipe, name) for name in names},
        scheduler=DDIMScheduler.from_config(pipe.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    port.set_progress_bar_config(disable=True)
    return port


@contextmanager
def saved_bytes(peak: list[int]) -> Iterator[None]:
    """The largest number of bytes that were saved for a backward pass at a time."""
    held: dict[int, int] = {}

    class Kept:
        def __init__(self, tensor: torch.Tensor):
            self.tensor = tensor
            held[id(self)] = tensor.nbytes
            peak[0] = max(peak[0], sum(held.values()))

        def __del__(self) -> None:
            held.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield


def measure(run: Callable[[], Any], steps: int) -> tuple[float, float]:
    """(seconds a step, MiB saved for the gradient)."""
    peak = [0]
    with saved_bytes(peak):
        began = time.perf_counter()
        run()
    return (time.perf_counter() - began) / steps, peak[0] / 2**20


def runs(pipe: StableDiffusionPipeline, side: int, grid: int, steps: int) -> dict[str, Callable[[], Any]]:
    """The contestants."""
    port = port_of(pipe)
    nurse = AttendAndExcite(subjects=SUBJECTS, max_steps=steps, thresholds={}, resolution=(grid, grid))
    call = {"height": side, "width": side, "num_inference_steps": steps, "guidance_scale": 5.0, "output_type": "latent"}

    def noise() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def ours() -> None:
        with probe.record(pipe, words=SUBJECTS, interventions=[nurse]):
            pipe(PROMPT, generator=noise(), **call)

    def theirs() -> None:
        more = {"token_indices": POSITIONS, "max_iter_to_alter": steps, "thresholds": {}, "attn_res": (grid, grid)}
        port(prompt=PROMPT, generator=noise(), **more, **call)

    return {"plain": lambda: pipe(PROMPT, generator=noise(), **call), "diffusers port": theirs, "probe": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("menagerie", "sd15"), default="menagerie")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    pipe = probe.load() if given.shape == "menagerie" else sd15_shaped()
    side = 128 if given.shape == "menagerie" else pipe.unet.config.sample_size * pipe.vae_scale_factor
    contestants = runs(pipe, side, 16, given.steps)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for round_ in range(given.rounds + 1):
        for name, run in contestants.items():
            row = measure(run, given.steps)
            if round_:  # the first round warms up
                rows[name].append(row)
    table = Table(
        "contestant", "s a step", "x port", "MiB saved", "x port", title=f"{given.shape}, {given.steps} steps"
    )
    base = rows["diffusers port"]
    for name, row in rows.items():
        ratios = [one[0] / other[0] for one, other in zip(row, base, strict=True)]
        seconds, held = (statistics.median(value[i] for value in row) for i in (0, 1))
        memory = held / max(statistics.median(value[1] for value in base), 1e-9)
        table.add_row(name, f"{seconds:.3f}", f"{statistics.median(ratios):.2f}", f"{held:.0f}", f"{memory:.2f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
