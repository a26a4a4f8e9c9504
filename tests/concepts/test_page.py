"""The page on concepts: its Python runs."""

import runpy
from pathlib import Path
from typing import Any

import pytest

import probe
from tests.test_docs import code


def test_the_code_of_the_page_runs(pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe, "load", lambda: pipe)
    (tmp_path / "page.py").write_text(code("docs/concepts.md"), encoding="utf-8")
    left = runpy.run_path(str(tmp_path / "page.py"))
    assert left["again"].words == left["concept"].words
    assert left["picture"].size == (64, 64)
