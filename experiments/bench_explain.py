"""What does explaining cost? Each inquiry against the forward pass that it explains, each explainer on a stored trace.

Rows of the first table are measured inside a recording, at one step: the guided forward pass (both branches in one
batch) and the inquiry in turns, so that what else the machine does hits both; medians. The second opens a stored trace
afresh for every round and times the explainer alone, reading from disk included.

`--shape sd15` says instead what attributions hold of memory on a random U-Net of Stable Diffusion 1.5's shape at
64 x 64 latents, weights included: counted over shapes, without arithmetic, in seconds. With `--run` they are computed,
and the most that the process ever held is printed: minutes a row on two cores.

    python -m experiments.bench_explain
    python -m experiments.bench_explain --rounds 1 --steps 2      shows that it works, and no figure that matters
    python -m experiments.bench_explain --shape sd15
"""

import argparse
import resource
import statistics
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from diffusers import UNet2DConditionModel
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import probe
from experiments.bench_nurse import sd15_shaped
from probe.attach.asked.gradients import attribute, latent_question
from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.change.gradient import checkpointed, without_weight_gradients
from probe.attach.text.rows import Row
from probe.errors import NotRecorded
from probe.explain import METHODS, Method
from probe.trace import Trace

PROMPT = "a cat and a red ball on a beach"
INQUIRIES: dict[str, Inquiry] = {
    "relevancy of the output": probe.Relevancy(target="output"),
    "the same, on text states": probe.Relevancy(target="output", through_text=False),
    "relevancy of the guidance": probe.Relevancy(),
    "the same, full rule": probe.Relevancy(self_rule=True),
    "leave-one-out, by padding": probe.LeaveOneOut(),
}
AIM = {"relevancy of the output": "<= 4", "relevancy of the guidance": "<= 4"}
MILLISECONDS = 50
ATTRIBUTIONS: dict[str, probe.Gradients] = {  # from the least memory to the most: a peak is that of all before it too
    "input x gradient of the latents": probe.Gradients(method="input_x_gradient", samples=1),
    "integrated gradients of the latents": probe.Gradients(samples=4),
    "the same, four at once": probe.Gradients(samples=4, at_once=4),
    "the same, nothing run again": probe.Gradients(samples=4, checkpoints=False),
}
GIBIBYTES, GIB = 8, 2**30
RELATIONS = ("image->text", "image->image:low-rank")  # what rollout and segmentation read
WORDLESS = ("guidance",)  # explains the prompt as a whole


class Stopwatch(Inquiry):
    """Times an inquiry and a forward pass in turns."""

    steps: tuple[int, ...] | None = (1,)
    inquiry: Inquiry
    rounds: int

    def begin(self, scene: Scene) -> Answer:
        return Watch(self, scene)


@dataclass
class Watch(Answer):
    """Seconds of each round."""

    request: Stopwatch
    scene: Scene
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"pass": [], "inquiry": []})

    def due(self, step: int) -> bool:
        return self.request.wants(step) and not self.seconds["pass"]

    def read(self, module: nn.Module, given: dict[str, Any], rows: Sequence[Row], step: int) -> None:
        """A first round of each is for warming up, and not counted."""
        for _ in range(self.request.rounds + 1):
            fresh = self.request.inquiry.begin(self.scene)
            with torch.no_grad():
                self.seconds["pass"].append(timed(partial(module.forward, **given)))
            self.seconds["inquiry"].append(timed(partial(fresh.read, module, given, rows, step)))

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """What was measured, as a node of the trace."""
        return {"/stopwatch": xr.Dataset({name: ("round", np.array(s[1:])) for name, s in self.seconds.items()})}


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def generated(pipe: Any, steps: int, prompt: str = PROMPT, **asked: Any) -> Trace:
    with probe.record(pipe, **asked) as recording:
        pipe(prompt, num_inference_steps=steps, generator=torch.Generator().manual_seed(0), output_type="latent")
    return recording.trace


def measured(pipe: Any, inquiry: Inquiry, rounds: int) -> tuple[float, float]:
    """Median seconds of a guided forward pass and of the inquiry."""
    asked = inquiry.model_copy(update={"steps": (1,)})
    node = generated(pipe, 2, words=[], explain=Stopwatch(inquiry=asked, rounds=rounds)).node("stopwatch")
    return float(node["pass"].median()), float(node["inquiry"].median())


def explained(folder: Path, method: Method, rounds: int) -> float | None:
    """Median seconds of an explainer on a trace that was just opened; None where the trace does not hold it."""
    word = None if method.name in WORDLESS else "cat"
    opened = [probe.open(folder) for _ in range(rounds)]
    with suppress(NotRecorded):
        return statistics.median(timed(partial(method.explain, trace, word)) for trace in opened)
    return None


def report(pipe: Any, rounds: int) -> Table:
    """Inquiries against the pass that they explain."""
    table = Table(title="One step, Menagerie", caption=f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for column in ("inquiry", "guided pass ms", "inquiry ms", "ratio", "aim"):
        table.add_column(column, justify="left" if column == "inquiry" else "right")
    for name, inquiry in INQUIRIES.items():
        plain, asked = measured(pipe, inquiry, rounds)
        table.add_row(name, f"{plain * 1e3:.0f}", f"{asked * 1e3:.0f}", f"{asked / plain:.2f}", AIM.get(name, ""))
    return table


def stored(pipe: Any, steps: int, rounds: int) -> Table:
    """Explainers on a stored trace."""
    table = Table(title=f"A stored trace of {steps} steps")
    for column in ("explainer", "ms", "aim"):
        table.add_column(column, justify="left" if column == "explainer" else "right")
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "trace"
        generated(pipe, steps, explain=[probe.Relevancy(), probe.LeaveOneOut()], relations=RELATIONS).save(folder)
        for method in METHODS:
            seconds = explained(folder, method, rounds)
            if seconds is not None:
                table.add_row(method.name, f"{seconds * 1e3:.1f}", f"< {MILLISECONDS}")
    return table


class Live(TorchDispatchMode):
    """The most bytes that what is made inside holds at a time; what was there `before` is not counted."""

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.held = {tensor.untyped_storage()._cdata: 0 for tensor in before}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in (leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            if storage._cdata not in self.held:
                self.held[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.held.pop, storage._cdata)
        self.most = max(self.most, sum(self.held.values()))
        return result


def counted(asked: probe.Gradients) -> float:
    """GiB that an attribution of one word to the latents holds at most, with the U-Net's weights, from shapes alone."""
    with FakeTensorMode(), ExitStack() as stack:
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
        latents, states, weights = torch.randn(4, 64, 64), torch.randn(2, 77, 768), list(unet.parameters())

        def forward(inputs: Tensor) -> Tensor:
            rows = torch.cat([inputs, inputs])
            whole, part = unet(rows, 1, states.repeat_interleave(len(inputs), 0)).sample.chunk(2)
            return ((whole - part) ** 2).flatten(1).sum(1) / 2

        stack.enter_context(without_weight_gradients(unet))
        if asked.checkpoints:
            stack.enter_context(checkpointed(unet))
        live = stack.enter_context(Live(weights))
        attribute(asked, forward, latent_question(latents, gradient=True))
        return (live.most + sum(weight.nbytes for weight in weights)) / GIB


def memory(*, run: bool) -> Table:
    """Attributions on a U-Net of Stable Diffusion 1.5's shape: what they hold at most, counted, or measured."""
    table = Table(title="One step and word, Stable Diffusion 1.5's shape, 64 x 64")
    for column in ("attribution", "seconds", "peak GiB of the process" if run else "GiB, counted", "aim"):
        table.add_column(column, justify="left" if column == "attribution" else "right")
    pipe = sd15_shaped() if run else None
    for name, asked in ATTRIBUTIONS.items():
        seconds, peak = ran(pipe, asked) if run else ("none", counted(asked))
        table.add_row(name, seconds, f"{peak:.2f}", f"< {GIBIBYTES}")
    return table


def ran(pipe: Any, asked: probe.Gradients) -> tuple[str, float]:
    """Seconds of a step with an attribution, and the most GiB that the process has held so far."""
    inquiry = asked.model_copy(update={"steps": (0,)})
    seconds = timed(partial(generated, pipe, 1, "a cat", words=[], explain=inquiry))
    return f"{seconds:.0f}", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, in turns")
    parser.add_argument("--steps", type=int, default=50, help="of the stored trace")
    parser.add_argument("--shape", choices=("menagerie", "sd15"), default="menagerie")
    parser.add_argument("--run", action="store_true", help="with sd15: compute, and measure the process")
    chosen = parser.parse_args(argv)
    console = Console(width=100)
    if chosen.shape == "sd15":
        console.print(memory(run=chosen.run))
        return
    pipe = probe.load()
    pipe.set_progress_bar_config(disable=True)
    console.print(report(pipe, chosen.rounds))
    console.print(stored(pipe, chosen.steps, chosen.rounds))


if __name__ == "__main__":
    main()
