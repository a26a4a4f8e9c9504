"""How much cheaper is our Attend-and-Excite than the diffusers port? Time per altered step, and memory, interleaved.

Both run the same prompt, seed and settings; every step is altered, none is refined, so that the ratio is that of one
gradient pass and one plain step; "added" is that without the plain step. Memory is the largest sum of tensors saved for
the backward pass, weights aside, from a run of its own. The losses of both are compared first. What is timed is the
pipeline's call alone: the recording reads no words, and what it puts together afterwards is not nursing. `--clock cpu`
counts processor time instead, for a machine that does other things meanwhile.
`--shape sd15` builds a random U-Net of Stable Diffusion 1.5's shape at 64 x 64 latents (minutes on two cores).
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from experiments.bench_record import CLOCKS
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
def saved_bytes(weights: set[int], peak: list[int]) -> Iterator[None]:
    """The most bytes that were saved for a backward pass at a time, weights aside: they are held anyway."""
    held: dict[int, tuple[int, int]] = {}  # by place in memory: how many hold it, and its bytes

    class Kept:
        def __init__(self, tensor: torch.Tensor):
            self.tensor, self.place = tensor, tensor.untyped_storage().data_ptr()
            if self.place not in weights:
                count, _ = held.get(self.place, (0, 0))
                held[self.place] = count + 1, tensor.untyped_storage().nbytes()
                peak[0] = max(peak[0], sum(size for _, size in held.values()))

        def __del__(self) -> None:
            count, size = held.pop(self.place, (0, 0))
            if count > 1:
                held[self.place] = count - 1, size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield


def saved(run: Callable[[], Any], pipe: StableDiffusionPipeline) -> float:
    """MiB saved for the gradient."""
    peak = [0]
    with saved_bytes({p.untyped_storage().data_ptr() for p in pipe.unet.parameters()}, peak):
        run()
    return peak[0] / 2**20


@dataclass
class Contest:
    """The same altered generation by the port, by `probe`, and without alteration."""

    pipe: StableDiffusionPipeline
    side: int
    grid: int
    steps: int
    clock: Callable[[], float] = time.perf_counter
    seconds: float = 0.0  # of the last call

    def timed(self, pipe: Any, **more: Any) -> None:
        """One generation."""
        given = self.call | more
        began = self.clock()
        pipe(prompt=PROMPT, **given)
        self.seconds = self.clock() - began

    @property
    def call(self) -> dict[str, Any]:
        shape = {"height": self.side, "width": self.side, "output_type": "latent"}
        noise = torch.Generator().manual_seed(0)
        return shape | {"num_inference_steps": self.steps, "guidance_scale": 5.0, "generator": noise}

    def plain(self) -> list[float]:
        """No loss."""
        self.timed(self.pipe)
        return []

    def ours(self) -> list[float]:
        """The loss of each step."""
        nurse = AttendAndExcite(
            subjects=SUBJECTS, max_steps=self.steps, thresholds={}, resolution=(self.grid, self.grid)
        )
        with probe.record(self.pipe, words=[], interventions=[nurse]) as recording:
            self.timed(self.pipe)
        return [entry["losses"][-1] for entry in recording.trace.extra["nursing"]]

    def theirs(self) -> list[float]:
        """The same by the port."""
        port, losses = port_of(self.pipe), list[float]()
        compute = port._compute_loss

        def heard(max_attention_per_index: list[torch.Tensor]) -> torch.Tensor:
            loss = compute(max_attention_per_index)
            losses.append(float(loss.detach()))
            return loss

        port._compute_loss = heard
        more = {"token_indices": POSITIONS, "max_iter_to_alter": self.steps, "thresholds": {}}
        self.timed(port, **more, attn_res=(self.grid, self.grid))
        return losses


def table_of(contest: Contest, rounds: int, title: str) -> Table:
    """Medians over interleaved rounds; the first one warms up."""
    runs = {"plain": contest.plain, "diffusers port": contest.theirs, "probe": contest.ours}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            run()
            times[name].append(contest.seconds / contest.steps)
    held = {name: saved(run, contest.pipe) for name, run in runs.items()}
    table = Table("contestant", "s a step", "x port", "s added", "x port", "MiB saved", "x port", title=title)
    middle = {name: statistics.median(row[1:]) for name, row in times.items()}
    base, added = middle["diffusers port"], {name: row - middle["plain"] for name, row in middle.items()}
    for name, row in times.items():
        ratio = statistics.median(one / other for one, other in zip(row[1:], times["diffusers port"][1:], strict=True))
        shares = (
            ratio,
            added[name] / max(base - middle["plain"], 1e-9),
            held[name] / max(held["diffusers port"], 1e-9),
        )
        numbers = zip((middle[name], added[name], held[name]), shares, strict=True)
        table.add_row(name, *(text for value, share in numbers for text in (f"{value:.3f}", f"{share:.2f}")))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("menagerie", "sd15"), default="menagerie")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    pipe = probe.load() if given.shape == "menagerie" else sd15_shaped()
    side = 128 if given.shape == "menagerie" else pipe.unet.config.sample_size * pipe.vae_scale_factor
    pipe.set_progress_bar_config(disable=True)
    contest = Contest(pipe, side, 16, given.steps, CLOCKS[given.clock])
    console = Console(file=sys.stdout)
    apart = max(abs(a - b) for a, b in zip(contest.ours(), contest.theirs(), strict=True))
    console.print(f"largest difference of the losses: {apart:.1e}")
    console.print(table_of(contest, given.rounds, f"{given.shape}, {given.steps} steps, {given.rounds} rounds"))


if __name__ == "__main__":
    main()
