"""`probe bias`, from the outside."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from probe.cli import main
from probe.generator.world import World
from tests import pipelines

READER = """
classifier: ZeroShot
phrases:
  kind: {doctor: a doctor, cat: a cat}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's folder, with a classifier and labelled pictures in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reader.yaml").write_text(READER)
    lines = ["file,kind"]
    for number, kind in enumerate(["doctor", "cat"] * 3):
        World().arrange([kind], number).picture.save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{kind}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def test_run_again_show_and_error(here: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["bias", "run", "--model", str(pipelines.folder("sd1")), "--groups", "doctor,chef", "--seeds", "0-1"]
    asked += ["--steps", "2", "--guidance", "3", "--inside", "--arm", "plural=a photo of doctors, not {group}"]
    asked += ["--classifier", "reader.yaml", "--error", "labels.csv"]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert "Perceived attributes, read by ZeroShot (menagerie:" in said.out and "Traceback" not in said.err
    assert re.search(r"^doctor +plain +doctor +2 ", said.out, re.M)
    assert re.search(r"^doctor +plural +doctor +2 ", said.out, re.M)
    assert "not the identity of anyone" in said.out
    assert {"summary.json", "errors.json", "shares.parquet", "shares-kind.png", "report.html"} <= {
        p.name for p in Path("out/bias").iterdir()
    }
    made = {path: path.stat().st_mtime_ns for path in Path("out/bias/jobs").rglob("manifest.json")}
    assert len(made) == 8
    assert main(asked) == 0  # goes on: nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in made} == made
    before = pd.read_parquet("out/bias/shares.parquet")
    assert main(["bias", "show", "out/bias"]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet("out/bias/shares.parquet"), before)
    capsys.readouterr()
    assert main(["bias", "error", "--classifier", "reader.yaml", "--error", "labels.csv"]) == 0
    assert "of 6 pictures (labels.csv)" in capsys.readouterr().out


BALANCE = ["bias", "balance", "--group", "doctor", "--classifier", "reader.yaml", "--error", "labels.csv"]


def test_a_knob_is_turned(here: Path, capsys: pytest.CaptureFixture[str]):
    asked = [*BALANCE, "--model", str(pipelines.folder("sd1")), "--towards", "a photo of a cat, no {group}"]
    asked += ["--seeds", "0-1", "--steps", "2", "--guidance", "3", "--label", "cat", "--share", "0.75", "--most", "2"]
    code = main(asked)
    said = capsys.readouterr().out
    held = json.loads(Path("out/balance/balance.json").read_text())
    assert code == (0 if held["even"] else 1) and held["told"] in said and held["label"] == "cat"
    assert [row["method"] for row in held["tries"]][:1] == ["plain"] and "out/balance/report.html" in said
    assert re.search(r"^plain +2  \d", said, re.M) and Path("out/balance/report.html").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "say what is turned: --towards TEXT, or --concept FOLDER and --word WORD"),
        (["--concept", "out/x"], "say what is turned"),
        (["--towards", "a {group}", "--last", "0"], "strength is turned from 0 to 0"),
        (["--towards", "a {group}", "--label", "dog"], "reads no kind 'dog'; it reads kind: doctor, cat"),
    ],
)
def test_a_knob_that_cannot_be_turned(here: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str):
    assert main([*BALANCE, *more]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_judges_error_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["bias", "error", "--each", "1"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"gender\ntrue \(down\), read \(across\);.*of \d+ pictures \(rendered scenes of Menagerie's world\)", said
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--groups", "doctor", "--list", "x.txt"], "two lists of groups"),
        (["--list", "x.txt"], "cannot read 'x.txt'"),
        (["--guidance", "1,high"], "--guidance holds 'high'; give numbers"),
        (["--within", "0.01"], "32 pictures of a group are too few"),
        (["--template", "a photo"], "needs one slot {group}"),
        (["--classifier", "nothing.yaml"], "cannot read 'nothing.yaml'"),
        (["--model", "owner/name"], "name another with `classifier`"),
        (["--seeds", "many"], "'many' is not a seed"),
        (["--arm", "fair"], "--arm 'fair' is not a name with a template; write --arm 'open=a photo of {group}"),
    ],
)
def test_what_cannot_be_used_is_said(here: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str):
    assert main(["bias", "run", *more]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("labels: 3", "names no classifier; write `classifier: ZeroShot`"),
        ("classifier: Zeroshot", "there is no classifier 'Zeroshot'; did you mean 'ZeroShot'?"),
        ("classifier: ZeroShot\nsauce: x", "sauce: there is no such field; did you mean 'source'?"),
        ("classifier: probe.study.scorers:Time", "Time is not a classifier; inherit from"),
    ],
)
def test_a_classifiers_file_that_cannot_be_used(
    here: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
):
    Path("bad.yaml").write_text(content)
    assert main(["bias", "error", "--classifier", "bad.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_a_foreign_error_cannot_be_rendered(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bias", "error", "--classifier", "reader.yaml"]) == 2
    assert "its error is not known; give --error labels.csv" in capsys.readouterr().err
