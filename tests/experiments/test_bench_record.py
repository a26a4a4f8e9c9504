"""The benchmark of recording, on toys: every pipeline runs, pictures stay, and the table says what is missing."""

import io

import pytest
from rich.console import Console

from experiments import bench_record as bench
from experiments.bench_contestants import eager
from experiments.bench_shapes import SHAPES

SITES = {"Menagerie": 7, "SD 1.5": 16, "SDXL": 7, "SD3": 2, "FLUX.1": 2}


@pytest.mark.parametrize("shape", SHAPES)
def test_recording_changes_nothing_and_every_layer_has_data(shape: str):
    row = bench.measure(bench.Job(shape, "probe, five words", 1, True, None))
    assert row.difference == 0.0
    assert row.layers == SITES[shape]
    assert row.held > 0 and row.plain > 0 and row.traced > 0


def test_the_eager_processor_is_given_back():
    pipe = bench.build_pipeline(SHAPES["Menagerie"], True)
    before = {path: id(processor) for path, processor in pipe.unet.attn_processors.items()}
    draw = bench.drawing(pipe, SHAPES["Menagerie"], True)
    latents, held = eager(pipe, draw)
    assert held is None and 0 < float((latents - draw()).abs().max()) < 1e-3
    assert {path: id(processor) for path, processor in pipe.unet.attn_processors.items()} == before


def test_the_table_scales_to_the_published_model_and_says_what_is_missing():
    rows = [
        bench.Row("FLUX.1", "probe, five words", 10.0, 10.2, held=2 * bench.MIB, difference=0.0, layers=2, steps=1),
        bench.Row("FLUX.1", "DAAM", problem="ModuleNotFoundError: No module named 'daam'"),
    ]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(bench.report(rows, False))
    text = console.export_text()
    assert "1.020" in text and f"{2 * 57 / 2 * 28:,.1f}" in text
    assert "No module named 'daam'" in text


@pytest.mark.slow
def test_every_contestant_has_a_process_of_its_own():
    row = bench.run(bench.Job("Menagerie", "AMD exact, head means", 1, True, None))
    assert row.problem.startswith("ModuleNotFoundError")
