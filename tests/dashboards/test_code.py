"""The Python and the files that the Explorer gives away do what they say."""

import ast
import io
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import probe
from dashboards.shared import code, downloads, traces
from dashboards.shared.opened import Opened, View, layer_choices, maps, opened
from probe.readings import Choice, word_maps
from tests import pipelines
from tests.factories import make_trace
from tests.show.hostile import WORDS


@pytest.fixture
def held(saved: str) -> Opened:
    return opened(saved)


def run(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a snippet in a folder; what it defined."""
    monkeypatch.chdir(folder)
    (folder / "snippet.py").write_text(text, encoding="utf-8")
    return runpy.run_path(str(folder / "snippet.py"))


@pytest.mark.parametrize("layer", range(5))
def test_maps(held: Opened, layer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    view = View(layer_choices(held.trace)[layer], step=2, shared=True)
    run(code.maps_code(held, view, ["cat", "balloon"]), tmp_path, monkeypatch)
    assert (tmp_path / "maps.svg").read_bytes().startswith(b"<?xml")
    written = pd.read_csv(tmp_path / "maps.csv").set_index(["step", "word", "y", "x"])["share"]
    shown = maps(held, view.layers, 0).sel(word=["cat", "balloon"], step=[2])
    assert written.to_xarray().sel(word=shown["word"]).values == pytest.approx(shown.values, rel=1e-5)


def test_steps_and_guidance(held: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    view = View(layer_choices(held.trace)[0])
    run(code.steps_code(held, view, ["cat", "balloon"], "cat"), tmp_path, monkeypatch)
    run(code.guidance_code(held, view), tmp_path, monkeypatch)
    assert {"strip.svg", "curves.svg", "guidance.svg", "guidance.csv"} <= {path.name for path in tmp_path.iterdir()}
    written = pd.read_csv(tmp_path / "guidance.csv")["difference_norm"]
    assert written.to_numpy() == pytest.approx(held.trace.node("guidance")["difference_norm"].values[:, 0])


def test_numbers(held: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run(code.numbers_code(held, View(layer_choices(held.trace)[1], step=1), ["cat"]), tmp_path, monkeypatch)
    word, mean, *_ = capsys.readouterr().out.split()
    wanted = word_maps(held.trace, ["cat"], Choice("down_blocks", steps=1))
    assert (word, float(mean)) == ("cat", pytest.approx(float(wanted.mean()), rel=1e-5))


def test_the_run_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.load("sd1")
    with probe.record(pipe, words=["cat", "red balloon"]) as recording:
        pipe(
            "a cat and a red balloon",
            num_inference_steps=2,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(4),
        )
    first = recording.trace
    made = run(code.run_code(opened(traces.save(first))), tmp_path, monkeypatch)["trace"]
    assert made.tree.identical(first.tree)


def test_hostile_words_stay_inside_their_quotes():
    held = opened(traces.save(make_trace(words=WORDS, steps=1)))
    view = View(layer_choices(held.trace)[0])
    texts = (
        code.maps_code(held, view, WORDS),
        code.steps_code(held, view, WORDS, WORDS[3]),
        code.numbers_code(held, view, WORDS),
        code.run_code(held),
    )
    for text in texts:
        found = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        assert set(WORDS) <= found
        assert names <= {
            "probe",
            "torch",
            "trace",
            "word",
            "words",
            "choice",
            "Choice",
            "word_maps",
            "heatmap",
            "print",
            "float",
            "pipe",
            "recording",
        }


def test_files(held: Opened):
    values = maps(held, layer_choices(held.trace)[0], 0)
    make = partial(downloads.map_frame, values)
    rows = values.sizes["step"] * values.sizes["word"] * values.sizes["y"] * values.sizes["x"]
    for frame in (
        pd.read_csv(io.BytesIO(downloads.as_csv(make))),
        pd.read_parquet(io.BytesIO(downloads.as_parquet(make))),
    ):
        assert list(frame.columns) == ["step", "word", "y", "x", "share"]
        assert len(frame) == rows
        one = frame[(frame["word"] == "cat") & (frame["step"] == 3)].pivot(index="y", columns="x", values="share")
        np.testing.assert_allclose(one.to_numpy(), values.sel(word="cat", step=3).values, rtol=1e-5)
    draw = partial(probe.show.overlays, held.trace)
    assert downloads.drawn(draw, "png").startswith(b"\x89PNG")
    assert b"<svg" in downloads.drawn(draw, "svg")[:600]
