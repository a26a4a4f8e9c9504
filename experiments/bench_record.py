"""What does recording cost? One table: plain generation, probe at three levels, diffusers' eager attention, and rivals.

Each contestant has a fresh process with the same pipeline. There it first generates without anything, then in turns
without and with its recording; the ratio is that of the two medians, so that what else the machine does hits both.
On one thread, `--clock cpu` counts the seconds that the processor worked for it, which no other process adds to.
Bytes are those of the maps held at the end, and of the rest of the run, which only probe keeps; growth is how much
higher the process's memory (on a GPU: the GPU's) has peaked than by plain generation. "Published" scales the bytes to
all blocks and steps of the published model.
Rows that were measured are kept in a file and not measured again; `--write` puts the table into docs/benchmarks.md.

    python -m experiments.bench_record --only Menagerie --rounds 5
    pip install --no-deps --target rivals attention-map-diffusers==1.0.0 daam==0.2.0
    pip install --no-deps --target rivals spacy "thinc<8.4" cymem preshed murmurhash wasabi srsly catalogue \\
        confection weasel blis smart-open cloudpathlib typer spacy-legacy spacy-loggers inflect more-itertools \\
        typeguard numba llvmlite scikit-image lazy-loader httpx
    python -m experiments.bench_record --rivals rivals --write
    python -m experiments.bench_record --only SDXL FLUX.1 --device cuda --dtype bfloat16

The second and third line put the rivals into a folder of their own, beside nothing that probe needs; without them
their rows say so. `--quick` shrinks everything to toys: it shows that the benchmark works, and no figure that matters.
"""

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import platform
import resource
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import probe
from experiments.bench_contestants import CONTESTANTS, PROMPT, Draw
from experiments.bench_shapes import SHAPES, Shape, build_pipeline
from probe.checkup import support
from probe.generator.card import insert

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
LEVEL = "probe, five words"  # whose bytes have a bar
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """What was measured. `problem` says why there is nothing."""

    shape: str
    contestant: str
    plain: float = float("nan")  # seconds, median
    traced: float = float("nan")
    maps: int = 0  # bytes
    rest: int = 0
    once: int = 0  # of the rest, what does not grow with the steps
    growth: int = 0
    difference: float = float("nan")
    layers: int = 0
    steps: int = 0
    problem: str = ""

    @property
    def ratio(self) -> float:
        return self.traced / self.plain


# One process


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    shape: str
    contestant: str
    rounds: int
    quick: bool
    rivals: str | None
    steps: int | None = None  # None: the shape's own
    device: str = "cpu"
    dtype: str = "float32"
    clock: str = "wall"


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def alone(job: Job) -> Row:
    """`measure`, in a process that does nothing else."""
    warnings.simplefilter("ignore")
    if job.rivals:
        sys.path.append(job.rivals)
    return measure(job)


def measure(job: Job) -> Row:
    """Plain and recorded generation in turns, in this process."""
    shape, contestant = SHAPES[job.shape], CONTESTANTS[job.contestant]
    if contestant.needs:
        importlib.import_module(contestant.needs)
    pipe = build_pipeline(shape, job.quick).to(job.device, getattr(torch, job.dtype))
    seconds: dict[str, list[float]] = {"plain": [], "traced": []}
    draw = drawing(pipe, shape, job.quick, job.steps)
    dir(probe.record)  # imported here, so that its libraries do not count as growth
    reference, peak = draw(), peak_memory()
    latents, held = contestant.run(pipe, draw)
    growth = peak_memory() - peak
    for _ in range(job.rounds):
        held = None
        seconds["plain"].append(timed(draw, job.clock)[0])
        elapsed, (latents, held) = timed(lambda: contestant.run(pipe, draw), job.clock)
        seconds["traced"].append(elapsed)
    times = {name: statistics.median(values) for name, values in seconds.items()}
    difference = float((latents.double() - reference.double()).abs().max())
    found = {**contestant.weigh(held)._asdict(), "growth": growth, "difference": difference}
    return Row(shape.name, contestant.name, **times, **found, steps=job.steps or shape.steps)


def drawing(pipe: Any, shape: Shape, quick: bool, steps: int | None = None) -> Draw:
    """Generates the latents of seed 0."""
    side, steps = shape.side(quick), steps or (2 if quick else shape.steps)
    call = {"num_inference_steps": steps, "guidance_scale": shape.guidance, "height": side, "width": side}

    def draw() -> torch.Tensor:
        return pipe(PROMPT, **call, generator=torch.Generator().manual_seed(0), output_type="latent")[0].cpu()

    return draw


def timed(call: Callable[[], Any], clock: str) -> tuple[float, Any]:
    gc.collect()
    now = CLOCKS[clock]
    began = now()
    result = call()
    return now() - began, result


def peak_memory() -> int:
    """The most bytes that this process has held so far: on the GPU, if it uses one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# All of them


def run(job: Job) -> Row:
    """A row, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        future = pool.submit(alone, job)
        problem = future.exception()
    if problem is not None:
        return Row(job.shape, job.contestant, problem=f"{type(problem).__name__}: {str(problem).splitlines()[0][:60]}")
    return future.result()


def known(path: Path) -> dict[Job, Row]:
    """What was measured before."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {Job(**line["job"]): Row(**line["row"]) for line in map(json.loads, lines)}


def rows_of(jobs: Sequence[Job], path: Path) -> Iterator[Row]:
    """A row for each job, measured where it is not known; what could not be measured is tried again next time."""
    done = known(path)
    for job in jobs:
        row = done.get(job) or run(job)
        if job not in done and not row.problem:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"job": asdict(job), "row": asdict(row)}) + "\n")
        yield row


def report(rows: Sequence[Row], quick: bool) -> Table:
    """The table."""
    table = Table(title="What recording costs", caption=f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in ("pipeline", "contestant"):
        table.add_column(name)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    previous = ""
    for row in rows:
        first = row.shape != previous
        if first:
            table.add_section()
        table.add_row(row.shape if first else "", row.contestant, *cells(row, quick))
        previous = row.shape
    return table


COLUMNS = (
    "plain s", "time ratio", "maps MiB", "published MiB", "rest MiB", "published MiB", "growth MiB",
    "latents differ by", "layers with data",
)  # fmt: skip


def cells(row: Row, quick: bool) -> list[str]:
    """A row's figures, or why it has none."""
    if row.problem:
        return [row.problem, *[""] * (len(COLUMNS) - 1)]
    contestant = CONTESTANTS[row.contestant]
    times = [f"{row.plain:.2f}", f"{row.ratio:.3f}" + (f" (bar {contestant.bar})" if contestant.bar else "")]
    layers = str(row.layers) if row.layers else ""
    return [*times, *weights(row, quick), f"{row.growth / MIB:,.0f}", f"{row.difference:.1e}", layers]


def weights(row: Row, quick: bool) -> list[str]:
    """MiB of the maps and of the rest, here and in the published model: its sites hold maps, its steps hold both.

    The latents before the first step are there once.
    """
    shape = SHAPES[row.shape]
    full = shape.full if row.rest and not quick else None  # of a rival it is not known which blocks it would read
    sites, steps = (full[0] / max(row.layers, 1), full[1] / max(row.steps, 1)) if full else (0, 0)
    bar = f" (bar {shape.bar})" if shape.bar and row.contestant == LEVEL else ""
    of_all = row.once + (row.rest - row.once) * steps if full else 0
    found = (row.maps, row.maps * sites * steps, row.rest, of_all)
    maps, published, rest, every = (f"{bytes_ / MIB:,.1f}" if bytes_ else "" for bytes_ in found)
    return [maps, published and published + bar, rest, every]


def page(rows: Sequence[Row], command: str) -> str:
    """The table in markdown, with how it was made."""
    cores = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    lines = [(row.shape, row.contestant, *cells(row, False)) for row in rows]
    head = ("pipeline", "contestant", *COLUMNS)
    return f"`{command}` on {cores}, torch {torch.__version__}:\n\n{support.table(head, lines)}"


def told(argv: Sequence[str]) -> str:
    """The command, for a page: without the file of rows, and with folders as they are called above."""
    words = list(argv)
    if "--rows" in words:
        del words[words.index("--rows") : words.index("--rows") + 2]
    if "--rivals" in words:
        words[words.index("--rivals") + 1] = "rivals"
    return shlex.join(["python", "-m", "experiments.bench_record", *words])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="PIPELINE")
    add("--contestants", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), metavar="NAME")
    add("--rounds", type=int, default=5, help="plain and recorded runs a contestant")
    add("--steps", type=int, help="denoising steps (default: the pipeline's own number)")
    add("--rivals", metavar="FOLDER", help="where the rivals were installed")
    add("--device", default="cpu", help="where the pipelines run, e.g. cuda")
    add("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    add("--clock", default="wall", choices=list(CLOCKS), help="cpu: the processor's own, on one thread")
    add("--rows", type=Path, default=Path("out/bench_record.jsonl"), metavar="FILE", help="keeps what was measured")
    add("--quick", action="store_true", help="toys, two steps, one round; nothing is kept or written")
    add("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    chosen = parser.parse_args(argv)
    if chosen.quick and chosen.write:
        parser.error("--quick measures toys; no figure of them belongs on a page")
    if chosen.clock == "cpu" and (chosen.device != "cpu" or torch.get_num_threads() > 1):
        parser.error("--clock cpu adds up all threads and sees no GPU; set OMP_NUM_THREADS=1, --device cpu")
    return chosen


def main(argv: Sequence[str] | None = None) -> list[Row]:
    chosen = arguments(argv)
    pairs = [(shape, contestant) for shape in chosen.only for contestant in chosen.contestants]
    rounds = 1 if chosen.quick else chosen.rounds
    how = {name: getattr(chosen, name) for name in ("device", "dtype", "clock")}
    jobs = [Job(s, c, rounds, chosen.quick, chosen.rivals, chosen.steps, **how) for s, c in pairs]
    rows = [run(job) for job in jobs] if chosen.quick else list(rows_of(jobs, chosen.rows))
    Console(width=160).print(report(rows, chosen.quick))
    if chosen.write:
        text = page(rows, told(sys.argv[1:] if argv is None else argv))
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
