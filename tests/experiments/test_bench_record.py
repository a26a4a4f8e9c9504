"""The benchmark of recording, on toys: every pipeline runs, pictures stay, and the table says what is missing."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from experiments import bench_record as bench
from experiments.bench_contestants import CONTESTANTS, eager
from experiments.bench_shapes import SHAPES

SITES = {"Menagerie": 7, "SD 1.5": 16, "SDXL": 7, "SD3": 2, "FLUX.1": 2}


@pytest.mark.parametrize("shape", SHAPES)
def test_recording_changes_nothing_and_every_layer_has_data(shape: str):
    row = bench.measure(bench.Job(shape, "probe, five words", 1, True, None))
    assert row.difference == 0.0
    assert row.layers == SITES[shape]
    assert row.maps > 0 and row.rest > 0 and row.plain > 0 and row.traced > 0


def test_what_grows_with_the_steps_is_told_from_what_does_not():
    contestant, pipe = CONTESTANTS["probe, five words"], bench.build_pipeline(SHAPES["SD 1.5"], True)
    draws = [bench.drawing(pipe, SHAPES["SD 1.5"], True, steps) for steps in (2, 5)]
    few, many = (contestant.weigh(contestant.run(pipe, draw)[1]) for draw in draws)
    assert few.once == many.once > 0
    assert few.once + (few.rest - few.once) * 5 / 2 == many.rest


def test_the_eager_processor_is_given_back():
    pipe = bench.build_pipeline(SHAPES["Menagerie"], True)
    before = {path: id(processor) for path, processor in pipe.unet.attn_processors.items()}
    draw = bench.drawing(pipe, SHAPES["Menagerie"], True)
    latents, held = eager(pipe, draw)
    assert held is None and 0 < float((latents - draw()).abs().max()) < 1e-3
    assert {path: id(processor) for path, processor in pipe.unet.attn_processors.items()} == before


def test_the_processors_clock_is_for_one_thread(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    with pytest.raises(SystemExit):
        bench.arguments(["--clock", "cpu"])
    assert "OMP_NUM_THREADS=1" in capsys.readouterr().err


def test_sleeping_costs_the_processor_nothing():
    assert bench.timed(lambda: time.sleep(0.2), "wall")[0] >= 0.2 > 5 * bench.timed(lambda: time.sleep(0.2), "cpu")[0]


def test_the_table_scales_to_the_published_model_and_says_what_is_missing():
    rows = [
        bench.Row(
            "FLUX.1",
            "probe, five words",
            10.0,
            10.2,
            maps=2 * bench.MIB,
            rest=3 * bench.MIB,
            once=bench.MIB,
            difference=0.0,
            layers=2,
            steps=1,
        ),
        bench.Row("FLUX.1", "DAAM", problem="ModuleNotFoundError: No module named 'daam'"),
    ]
    console = Console(width=260, record=True, file=io.StringIO())
    console.print(bench.report(rows, False))
    text = console.export_text()
    assert "1.020" in text and f"{2 * 57 / 2 * 28:,.1f} (bar 130)" in text and f"{1 + 2 * 28:.1f}" in text
    assert "No module named 'daam'" in text


JOBS = [bench.Job("Menagerie", name, 1, False, None) for name in ("probe, five words", "DAAM")]
ROW = bench.Row("Menagerie", "probe, five words", 10.0, 10.3, maps=bench.MIB, difference=0.0, layers=7, steps=50)


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def once(job: bench.Job) -> bench.Row:
        asked.append(job.contestant)
        return ROW if job == JOBS[0] else bench.Row(job.shape, job.contestant, problem="not here")

    monkeypatch.setattr(bench, "run", once)
    path = tmp_path / "out" / "rows.jsonl"
    first, second = list(bench.rows_of(JOBS, path)), list(bench.rows_of(JOBS, path))
    assert asked == ["probe, five words", "DAAM", "DAAM"]  # what failed is tried again
    assert first == second and first[0] == ROW
    assert list(bench.known(path)) == JOBS[:1]
    assert next(bench.rows_of([bench.Job("Menagerie", "probe, five words", 2, False, None)], path)) != first[0]


def test_the_page_has_the_command_the_bars_and_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "page.md").write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter", encoding="utf-8")
    monkeypatch.setattr(bench, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "run", lambda job: ROW)
    asked = ["--only", "Menagerie", "--contestants", "probe, five words", "--rows", str(tmp_path / "rows"), "--write"]
    asked += ["--rivals", str(tmp_path)]
    assert bench.main(asked) == [ROW]
    said = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert said.startswith("before\n") and said.endswith("\nafter") and "old" not in said
    ours = "experiments.bench_record --only Menagerie --contestants 'probe, five words' --write --rivals rivals`"
    assert f"`python -m {ours}" in said and str(tmp_path) not in said
    assert "| Menagerie | probe, five words | 10.00 | 1.030 (bar 1.05) | 1.0 |" in said


def test_toys_are_written_nowhere(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        bench.main(["--quick", "--write"])
    assert "no figure of them belongs on a page" in capsys.readouterr().err


def test_the_shipped_page_has_a_place_for_the_table():
    assert bench.insert(bench.PAGE.read_text(encoding="utf-8"), "the table").count("the table") == 1


@pytest.mark.slow
def test_every_contestant_has_a_process_of_its_own():
    row = bench.run(bench.Job("Menagerie", "AMD exact, head means", 1, True, None))
    assert row.problem.startswith("ModuleNotFoundError")
