"""Does probe read what its rivals read, where they read it right? One table of the largest differences.

DAAM 0.2.0's map of each word against `probe.explain.daam` (square pictures, guidance on: the only case it has), and
attention-map-diffusers 1.0.0's exact mode against the trace, every site, step and word. Both run on the same pipeline
from the same noise as probe does. DAAM computes attention anew, so its latents move (by up to 4e-5 in bench_record).
Beside the difference from attention-map-diffusers stands how far each of the two is from the truth: from float64
softmax of the very queries and keys, which are the same in all three runs. probe is asked for `exact=True`.

    pip install --no-deps --target rivals attention-map-diffusers==1.0.0 daam==0.2.0
    pip install --no-deps --target rivals spacy "thinc<8.4" cymem preshed murmurhash wasabi srsly catalogue \\
        confection weasel blis smart-open cloudpathlib typer spacy-legacy spacy-loggers inflect more-itertools \\
        typeguard numba llvmlite scikit-image lazy-loader httpx
    python -m experiments.compare_rivals --rivals rivals --write

Without the folder the rows say that there is nothing to compare with. `--write` puts the table into docs/rivals.md.
"""

import argparse
import importlib
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import probe
from experiments.bench_contestants import WORDS, Draw
from experiments.bench_record import drawing
from experiments.bench_shapes import SHAPES, build_pipeline
from probe.attach.model.attention import named_attention
from probe.attach.model.families import denoisers, family
from probe.attach.waist import Call, Waist, scores
from probe.checkup import support
from probe.explain.daam import daam
from probe.generator.card import insert
from probe.trace import Trace

PAGE = Path(__file__).parent.parent / "docs" / "rivals.md"
HEAD = (
    "rival", "pipeline", "largest difference", "it is off by", "we are off by", "largest value", "its layers", "ours",
)  # fmt: skip
STEPS = 4
NOTE = f"{STEPS} steps; all but Menagerie are toys with random weights"
TOYS = ("SD 1.5", "SDXL", "SD3", "FLUX.1")
UNETS = ("SD 1.5", "SDXL")


@dataclass(frozen=True)
class Row:
    """One comparison. `layers`: with data, of the rival and of probe. `problem` says why there is none.

    `off`: the largest differences of the rival and of probe from float64 softmax, where they are means over heads.
    """

    rival: str
    pipeline: str
    difference: float = float("nan")
    largest: float = float("nan")  # value of the rival's maps
    off: tuple[float, float] | None = None
    layers: tuple[int, int] = (0, 0)
    problem: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row in words."""
        if self.problem:
            return self.rival, self.pipeline, self.problem
        off = map("{:.1e}".format, self.off) if self.off else ("", "")
        figures = (f"{self.difference:.1e}", *off, f"{self.largest:.3f}")
        return (self.rival, self.pipeline, *figures, *map(str, self.layers))


@dataclass(frozen=True)
class Case:
    """A pipeline to compare on: Menagerie as it is, all others as toys."""

    name: str

    def ready(self) -> tuple[Any, Draw]:
        """The pipeline, made anew, since DAAM leaves some of itself behind; and what draws with it."""
        shape, quick = SHAPES[self.name], self.name != "Menagerie"
        pipe = build_pipeline(shape, quick)
        return pipe, drawing(pipe, shape, quick, STEPS)

    def trace(self, **options: Any) -> Trace:
        """What probe records."""
        pipe, draw = self.ready()
        with probe.record(pipe, ["*"], **options) as recording:
            draw()
        return recording.trace


def daams(case: Case) -> Row:
    """The maps of all words."""
    rival = importlib.import_module("daam")
    pipe, draw = case.ready()
    with rival.trace(pipe) as traced:
        draw()
        factors = range(isqrt(traced.latent_hw) + 1)  # its default list lacks those of Menagerie's grids
        whole = traced.compute_global_heat_map(factors=factors)
    theirs = {word: whole.compute_word_heat_map(word).heatmap.numpy() for word in WORDS}
    trace = case.trace(heads="all")
    ours = {word: daam(trace, word, side=isqrt(traced.latent_hw)) for word in WORDS}
    return Row(
        "DAAM 0.2.0, word maps",
        case.name,
        difference=max(float(np.abs(ours[word].values.values - theirs[word]).max()) for word in WORDS),
        largest=max(float(value.max()) for value in theirs.values()),
        layers=(len({layer for (_, layer, _), _ in traced.all_heat_maps}), len(ours[WORDS[0]].provenance["sites"])),
    )


def attention_maps(case: Case) -> Row:
    """Means over heads of cells to words, at every site and step that the rival has."""
    rival = importlib.import_module("attention_map_diffusers")
    pipe, draw = case.ready()
    with rival.AttentionCapture(pipe, timesteps="all", mode="exact", max_capture_bytes=None) as capture:
        draw()
    records = [record for record in capture.compute() if record.data is not None]
    trace = case.trace(keep="maps", exact=True)
    true = truth(case, trace)
    pairs = [pair for record in records for pair in matched(record, trace)]
    exact = [pair[1] for record in records for pair in matched(true[record.layer_id, record.step_index], trace)]
    return Row(
        "attention-map-diffusers 1.0.0, exact",
        case.name,
        difference=max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs),
        off=(furthest([theirs for _, theirs in pairs], exact), furthest([ours for ours, _ in pairs], exact)),
        largest=max(float(theirs.max()) for _, theirs in pairs),
        layers=(len({record.layer_id for record in records}), len(trace.sites)),
    )


def furthest(maps: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """The largest difference of maps from the true ones."""
    return max(float(np.abs(one - other).max()) for one, other in zip(maps, true, strict=True))


@dataclass(frozen=True)
class Softmax:
    """A site's softmax at one step as a rival's record has it: the mean over heads [1, 1, cell, column of the text]."""

    layer_id: str
    step_index: int
    data: torch.Tensor


def truth(case: Case, trace: Trace) -> dict[tuple[str, int], Softmax]:
    """The float64 softmax of cells over all columns, by site and step, of the last row of the batch, which is cond."""
    pipe, draw = case.ready()
    grids = {site.path: site.grid for site in trace.sites}
    text_first = family(pipe).text == "first"
    found: dict[tuple[str, int], Softmax] = {}
    steps: Counter[str] = Counter()

    def read(call: Call, lse: torch.Tensor | None) -> None:
        if call.path in grids:
            s = scores(call, slice(None), torch.arange(call.columns), torch.float64)[-1:]
            p, cells = s.softmax(-1).mean(1, keepdim=True), prod(grids[call.path])
            if call.rows > cells:  # text and picture side by side
                text = call.rows - cells
                p = p[:, :, text:, :text] if text_first else p[:, :, :cells, cells:]
            step = steps[call.path]
            found[call.path, step] = Softmax(call.path, step, p)
            steps[call.path] += 1

    (name, module), *_ = denoisers(pipe).items()
    waist = Waist(read, lambda path: True)
    with waist.on(named_attention({name: module})):
        draw()
    return found


def matched(record: Any, trace: Trace) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ours, theirs), [cell], for every word of the prompt, at one site and step."""
    node = next(node for node in trace.attention_nodes() if record.layer_id in node["site"].values)
    ours = node["attention"].sel(site=record.layer_id, step=record.step_index, branch="cond", image=0)
    theirs = record.data[-1, 0].double().numpy()  # the last row is cond; [cell, column of the text]
    columns = {word.label: sorted({i for places in word.tokens.values() for i in places}) for word in trace.words}
    return [(ours.sel(word=label).values.ravel(), theirs[:, at].sum(-1)) for label, at in columns.items()]


COMPARED: tuple[tuple[Callable[[Case], Row], str, tuple[str, ...]], ...] = (
    (daams, "DAAM 0.2.0", ("Menagerie", *UNETS)),
    (attention_maps, "attention-map-diffusers 1.0.0", ("Menagerie", *TOYS)),
)


def compared(only: Sequence[str]) -> list[Row]:
    """All rows; a rival that is not installed has one that says so."""
    rows = []
    for compare, rival, names in COMPARED:
        for name in (name for name in names if name in only):
            try:
                rows.append(compare(Case(name)))
            except ModuleNotFoundError as missing:
                rows.append(Row(rival, name, problem=f"not installed ({missing}); see --help"))
    return rows


def report(rows: Sequence[Row]) -> Table:
    """The table."""
    table = Table(title="The same maps", caption=NOTE)
    for name in HEAD:
        table.add_column(name)
    for row in rows:
        table.add_row(*row.cells())
    return table


def page(rows: Sequence[Row]) -> str:
    """The table in markdown, with how it was made."""
    return f"`python -m experiments.compare_rivals --rivals rivals --write`; {NOTE}:\n\n" + support.table(
        HEAD, [row.cells() for row in rows]
    )


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Raises SystemExit where there is something to write and not everything to write it from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="PIPELINE")
    parser.add_argument("--rivals", metavar="FOLDER", help="where the rivals were installed")
    parser.add_argument("--write", action="store_true", help="put the table into docs/rivals.md")
    chosen = parser.parse_args(argv)
    if chosen.rivals:
        sys.path.append(chosen.rivals)
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        os.environ["XDG_CACHE_HOME"] = cache  # DAAM makes a folder there
        warnings.simplefilter("ignore")
        rows = compared(chosen.only)
    Console(width=200).print(report(rows))
    if chosen.write and any(row.problem for row in rows):
        parser.error("a rival is missing: nothing is written")
    if chosen.write:
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), page(rows)), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
