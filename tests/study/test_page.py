"""The page on studies: its Python runs, its YAML is read."""

import re
import runpy
from pathlib import Path

import pytest

from probe import Study
from probe.generator import weights
from probe.study.resolve import resolve
from tests import pipelines

PAGE = Path(__file__).parent.parent.parent / "docs" / "studies.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "load", lambda *given, **options: pipelines.pipeline("sd1"))
    monkeypatch.setattr(weights, "digest", lambda path: "0" * 64)
    (tmp_path / "page.py").write_text("\n".join(blocks("python")), encoding="utf-8")
    page = runpy.run_path(str(tmp_path / "page.py"))
    assert page["status"].ok
    assert Study.open(tmp_path / "out" / "backwards").status().ok
    assert "8 of 8 jobs done" in capsys.readouterr().out


def test_the_study_of_the_page_can_be_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "digest", lambda path: "0" * 64)
    (tmp_path / "neglect.yaml").write_text(blocks("yaml")[0])
    study = resolve(Study.read(tmp_path / "neglect.yaml"))
    assert (len(study.rows), study.seeds, study.name) == (276, tuple(range(8)), "neglect")
    assert [method.name for method in study.interventions] == ["plain", "AttendAndExcite", "early", "DivideAndBind"]


def test_every_way_to_give_prompts_can_be_read(tmp_path: Path):
    (tmp_path / "prompts.csv").write_text("prompt\na cat\n")
    lines = blocks("yaml")[1].split("\nprompts:")
    counts = []
    for number, text in enumerate(lines):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"prompts:{text.removeprefix('prompts:')}\n")
        counts.append(len(Study.read(path).rows))
    assert counts == [2, 1, 66, 4]


def test_the_page_names_every_field():
    assert set(Study.model_fields) - {"question"} <= set(re.findall(r"`(\w+)`", PAGE.read_text("utf-8")))
