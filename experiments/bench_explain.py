"""What does explaining cost? Each inquiry against the forward pass that it explains, each explainer on a stored trace.

Rows of the first table are measured inside a recording, at one step: the guided forward pass (both branches in one
batch) and the inquiry in turns, so that what else the machine does hits both; medians. The second opens a stored trace
afresh for every round and times the explainer alone, reading from disk included.

    python -m experiments.bench_explain
    python -m experiments.bench_explain --rounds 1 --steps 2      shows that it works, and no figure that matters
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from rich.console import Console
from rich.table import Table
from torch import nn

import probe
from probe.attach.asked.inquiry import Answer, Inquiry, Scene
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


def generated(pipe: Any, steps: int, **asked: Any) -> Trace:
    with probe.record(pipe, **asked) as recording:
        pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(0), output_type="latent")
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
        generated(pipe, steps, explain=[probe.Relevancy(), probe.LeaveOneOut()]).save(folder)
        for method in METHODS:
            seconds = explained(folder, method, rounds)
            if seconds is not None:
                table.add_row(method.name, f"{seconds * 1e3:.1f}", f"< {MILLISECONDS}")
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, in turns")
    parser.add_argument("--steps", type=int, default=50, help="of the stored trace")
    chosen = parser.parse_args(argv)
    pipe = probe.load()
    pipe.set_progress_bar_config(disable=True)
    console = Console(width=100)
    console.print(report(pipe, chosen.rounds))
    console.print(stored(pipe, chosen.steps, chosen.rounds))


if __name__ == "__main__":
    main()
