"""`probe explain`, from the outside: words to regions, regions to words, and what it refuses."""

from pathlib import Path

import pandas as pd
import pytest

import probe
from probe.cli import main
from probe.explain import METHODS
from tests.explain.test_roles import with_roles
from tests.factories import make_film, make_trace


@pytest.fixture
def saved(tmp_path: Path) -> str:
    return str(make_trace().save(tmp_path / "trace"))


def test_it_says_where_each_word_is_and_what_the_method_cannot_tell(saved: str, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", saved]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("attention: shows which cells attend")
    assert lines[1].startswith("  cat: strongest top left, ")
    assert lines[2].startswith("  balloon: strongest bottom right")
    assert lines[3].startswith("  it cannot tell that the word caused")
    assert len(lines) == 4


def test_several_methods_go_into_one_folder(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "deep" / "out"
    assert main(["explain", saved, "--method", "attention,daam", "--words", "cat", "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"methods.png", "methods.svg", "maps.csv", "settings.yaml"}
    table = pd.read_csv(out / "maps.csv")
    assert set(table["method"]) == {"attention", "daam"} and set(table["word"]) == {"cat"}
    ours = table[table["method"] == "attention"]["value"].to_numpy()
    assert ours == pytest.approx(probe.attention(make_trace(), "cat").values.values.ravel())
    assert str(out) in capsys.readouterr().out
    assert main(["explain", saved, "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["explain", saved, "--config", str(out / "settings.yaml"), "--out", str(out), "--overwrite"]) == 0


def test_all_are_those_that_the_trace_holds(saved: str, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", saved, "--method", "all"]) == 0
    shown = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert {"attention", "daam", "guidance"} <= set(shown) and "relevancy" not in shown


@pytest.mark.parametrize("method", [m for m in METHODS if m.record], ids=lambda m: m.name)
def test_what_was_not_recorded_is_named(method, saved: str, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", saved, "--method", method.name]) == 1
    assert f"probe.{method.record}(" in capsys.readouterr().err


def test_a_region_has_ranked_words(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "words"
    assert main(["explain", saved, "--region", "0.5,0.5,1,1", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("  balloon: ") and lines[2].startswith("  cat: ")
    assert pd.read_csv(out / "words.csv")["word"].tolist() == ["balloon", "cat"]
    assert main(["explain", saved, "--region", "0.2,0.2"]) == 0  # a cell: y, x
    assert capsys.readouterr().out.splitlines()[1].startswith("  cat: ")


def test_tables_are_told_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved, out = str(with_roles().save(tmp_path / "roles")), tmp_path / "tables"
    assert main(["explain", saved, "--table", "ablation,overlap", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "ablation: shows what share" in told and "it cannot show what layers do together" in told
    assert {"ablation.csv", "ablation.png", "overlap.svg", "settings.yaml"} <= {path.name for path in out.iterdir()}
    assert pd.read_csv(out / "ablation.csv").groupby("word")["value"].sum().tolist() == pytest.approx([1, 1])
    assert main(["explain", saved, "--table", "all"]) == 0
    assert "patching: shows what share" in capsys.readouterr().out
    assert main(["explain", saved, "--table", "scores"]) == 1
    assert "probe.Gradients(on='text')" in capsys.readouterr().err


REFUSED = {
    "table": (["--table", "magic"], "no table 'magic'; there are: scores"),
    "table of a region": (["--table", "all", "--region", "0,0,1,1"], "--table and --region cannot be combined"),
    "table of words": (["--table", "all", "--words", "cat"], "--table and --words cannot be combined"),
    "word by all methods": (["--method", "all", "--words", "dragon"], "'dragon'"),
    "method": (["--method", "magic"], "no explainer 'magic'; there are: attention"),
    "word": (["--words", "zebra"], "'zebra' was not recorded; the words of this trace are: cat, balloon"),
    "region": (["--region", "left half"], "give left,top,right,bottom"),
    "outside": (["--region", "0,0,2,1"], "neither a cell"),
    "empty": (["--region", "0.5,0.5,0.5,1"], "holds no cell"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    name: str, saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments, said = REFUSED[name]
    assert main(["explain", saved, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["trace"]


def test_one_frame_of_a_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    film, out = make_film(), tmp_path / "out"
    saved = str(film.save(tmp_path / "film"))
    assert main(["explain", saved, "--words", "cat", "--frame", "1", "--out", str(out)]) == 0
    values = pd.read_csv(out / "maps.csv")["value"].to_numpy()
    assert values == pytest.approx(probe.attention(film, "cat", frame=1).values.values.ravel())
    assert main(["explain", saved, "--region", "0,0,1,1", "--frame", "2"]) == 0
    assert main(["explain", saved, "--frame", "3"]) == 1
    assert "no frame 3: its latents have 3, from 0" in capsys.readouterr().err
