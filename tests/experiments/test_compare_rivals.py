"""Side by side with rivals: what is compared with what, and what is said where there is no rival."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import probe
from experiments import compare_rivals as compare
from tests.attach.looking import checking, softmax64


@pytest.mark.parametrize("name", ["SD 1.5", "FLUX.1"])
def test_a_rivals_record_is_matched_word_by_word(name: str):
    pipe, draw = compare.Case(name).ready()
    with checking() as checks, probe.record(pipe, ["*"], keep="maps") as recording:
        draw()
    trace = recording.trace
    found = 0
    for call, current in checks.calls:
        if call.path not in {site.path for site in trace.sites}:
            continue
        first = 512 if name == "FLUX.1" else 0  # the picture's rows; the text's columns come first
        rows = softmax64(call, slice(first, None)).mean(1, keepdim=True)[..., : 512 if first else None]
        record = SimpleNamespace(layer_id=call.path, step_index=current.step, data=rows)
        pairs = compare.matched(record, trace)
        assert len(pairs) == len(trace.words)
        assert max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs) < 1e-6
        found += 1
    assert found == len(trace.sites)


@pytest.mark.parametrize("name", ["SDXL", "SD3", "FLUX.1"])
def test_what_is_recorded_exactly_is_the_float64_softmax(name: str):
    case = compare.Case(name)
    trace = case.trace(keep="maps", exact=True)
    true = compare.truth(case, trace)
    assert {path for path, _ in true} == {site.path for site in trace.sites}
    pairs = [pair for one in true.values() for pair in compare.matched(one, trace)]
    assert len(pairs) == len(trace.sites) * compare.STEPS * len(trace.words)
    assert compare.furthest(*zip(*pairs, strict=True)) < 1e-8


def test_without_rivals_every_row_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(compare.importlib, "import_module", missing)
    rows = compare.main(["--only", "Menagerie", "SD3"])
    assert [(row.rival, row.pipeline) for row in rows] == [
        ("DAAM 0.2.0", "Menagerie"),
        ("attention-map-diffusers 1.0.0", "Menagerie"),
        ("attention-map-diffusers 1.0.0", "SD3"),
    ]
    assert "not installed (No module named 'daam'); see --help" in capsys.readouterr().out


def missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'")


def test_nothing_is_written_where_a_rival_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(compare.importlib, "import_module", missing)
    monkeypatch.setattr(compare, "PAGE", tmp_path / "page.md")
    with pytest.raises(SystemExit):
        compare.main(["--only", "SD3", "--write"])
    assert list(tmp_path.iterdir()) == []


def test_the_page_shows_the_differences():
    row = compare.Row("one", "SD3", difference=2e-7, largest=0.5, off=(3e-7, 1e-8), layers=(1, 2))
    assert "| one | SD3 | 2.0e-07 | 3.0e-07 | 1.0e-08 | 0.500 | 1 | 2 |" in compare.page([row])
    page = compare.PAGE.read_text(encoding="utf-8")
    assert compare.insert(page, "the table").count("the table") == 1
