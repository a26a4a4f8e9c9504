"""`probe concept`, from the outside."""

from pathlib import Path

import pytest

import probe
from probe.cli import main
from tests import pipelines

FEW = ["--pictures", "2", "--inference-steps", "2", "--steps", "2", "--height", "64", "--width", "64"]


@pytest.fixture(scope="module")
def model() -> str:
    return str(pipelines.folder("sd1"))


def test_it_writes_the_concept_its_pictures_and_its_settings(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "cat"
    given = ["concept", "a cat", "--model", model, "--solver", "sparse", "--words", "dog,bear", "--out", str(out)]
    assert main([*given, *FEW]) == 0
    concept = probe.Concept.open(out / "concept")
    assert set(concept.words) <= {"dog", "bear"}
    assert concept.provenance["model"] == model
    assert {path.name for path in out.iterdir()} == {
        "concept",
        "report.html",
        "settings.yaml",
        *(f"{name}-{i}.png" for name in ("concept", "decomposition") for i in range(4)),
    }
    told = capsys.readouterr().out
    assert "'a cat', in 2 words by sparse:" in told
    assert concept.words[0] in told
    assert main([*given, *FEW]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--solver", "magic"], "there is no solver 'magic'; there are: conceptor"),
        (["--words", "unheardof"], "no word is left for 'a cat'"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    more: list[str], why: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["concept", "a cat", "--model", model, "--out", str(tmp_path / "x"), *FEW, *more]) == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
