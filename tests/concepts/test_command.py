"""`probe concept`, from the outside."""

from pathlib import Path

import pytest

import probe
from probe.cli import main
from tests import pipelines

FEW = ["--pictures", "2", "--steps", "2", "--learning-steps", "2", "--height", "64", "--width", "64"]


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


@pytest.mark.parametrize("kept", [False, True])
def test_ctrl_c_says_what_is_left(
    kept: bool, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "decompose", interrupt)
    asked = ["--checkpoint", str(tmp_path / "kept")] if kept else []
    assert main(["concept", "a cat", "--model", model, "--out", str(tmp_path / "cat"), *asked]) == 130
    told = f"what is finished stays in {tmp_path / 'kept'}" if kept else "nothing was left behind"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "cat").exists()


def test_it_prunes_single_pictures_of_what_it_found_or_of_an_earlier_run(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = ["concept", "a cat", "--model", model, "--eyes", "menagerie", *FEW]
    learn = ["--solver", "sparse", "--words", "dog,bear,clock", "--prune", "3,5", "--out", str(tmp_path / "cat")]
    assert main([*given, *learn]) == 0
    told = capsys.readouterr().out
    assert "seed 3: " in told and "seed 5: " in told and str(tmp_path / "cat" / "picture-3" / "report.html") in told
    first = tmp_path / "cat" / "picture-3"
    assert {path.name for path in first.iterdir()} == {"concept", "report.html", "before-0.png", "decomposition-0.png"}
    left = probe.Concept.open(first / "concept")
    whole = probe.Concept.open(tmp_path / "cat" / "concept")
    assert set(left.words) | set(left.provenance["removed"]) == set(whole.words)
    assert left.settings == whole.settings and left.provenance["seed"] == 3
    known = ["--concept", str(tmp_path / "cat" / "concept"), "--prune", "3", "--out", str(tmp_path / "again")]
    assert main([*given[: -len(FEW)], *known]) == 0  # drawn as it was drawn when it was learned
    again = tmp_path / "again" / "picture-3"
    assert probe.Concept.open(again / "concept").words == left.words
    assert (again / "before-0.png").read_bytes() == (first / "before-0.png").read_bytes()
    assert not (tmp_path / "again" / "concept").exists()
    assert main(["concept", "a dog", *given[2:], *known[:4], "--out", str(tmp_path / "other")]) == 2
    assert "holds the concept 'a cat', not 'a dog'" in capsys.readouterr().err
    assert main([*given, "--concept", str(tmp_path / "nowhere"), "--prune", "3", "--out", str(tmp_path / "other")]) == 1
    assert "holds no concept.json" in capsys.readouterr().err and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--solver", "magic"], "there is no solver 'magic'; there are: conceptor"),
        (["--words", "unheardof"], "no word is left for 'a cat'"),
        (["--prune", "0"], "give --eyes the folder of a CLIP model"),
        (["--prune", "none", "--eyes", "menagerie"], "'none' is not a seed"),
        (["--prune", "0", "--eyes", "nowhere"], "nowhere holds no CLIPModel"),
        (["--concept", "somewhere"], "add the seeds to prune: --prune 0-3"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    more: list[str], why: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["concept", "a cat", "--model", model, "--out", str(tmp_path / "x"), *FEW, *more]) == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
