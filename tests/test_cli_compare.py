"""`probe compare`, from the outside: what differs, whose map moved, what is written and what is refused."""

from pathlib import Path

import pandas as pd
import pytest

import probe
from probe.cli import main
from tests.factories import make_small_trace, make_trace


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    saved = make_trace(seed=0).save(tmp_path / "a"), make_trace(seed=1, words=("balloon", "cat")).save(tmp_path / "b")
    return str(saved[0]), str(saved[1])


def test_it_says_what_differs_and_ranks_the_words(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    assert main(["compare", *pair]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Comparison of 'a cat and a balloon' and 'a balloon and a cat'")
    rows = [line.split() for line in said.splitlines()]
    assert ["seed", "0", "1"] in rows
    ranked = probe.compare(*(probe.open(each) for each in pair)).ranked()["word"].tolist()
    assert [row[0] for row in rows if row[:1] and row[0] in ("cat", "balloon")] == ranked


def test_figures_and_tables_go_into_one_folder(pair: tuple[str, str], tmp_path: Path):
    out = tmp_path / "out"
    assert main(["compare", *pair, "--words", "cat=balloon", "--out", str(out)]) == 0
    figures = {f"{name}.{suffix}" for name in ("maps", "curves") for suffix in ("png", "svg")}
    tables = {"differs.csv", "words.csv", "steps.parquet", "settings.yaml"}
    assert {path.name for path in out.iterdir()} == figures | tables
    assert pd.read_csv(out / "words.csv")["word"].tolist() == ["cat"]
    steps = pd.read_parquet(out / "steps.parquet").query("measure == 'divergence' and group == 'all'")
    wanted = probe.compare(*(probe.open(each) for each in pair), words={"cat": "balloon"}).distances["divergence"]
    assert steps["value"].to_numpy() == pytest.approx(wanted.sel(group="all", word="cat").values)
    assert main(["compare", *pair, "--config", str(out / "settings.yaml"), "--out", str(out), "--overwrite"]) == 0


def test_what_was_not_recorded_is_said_and_the_rest_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small = str(make_small_trace().save(tmp_path / "small"))
    assert main(["compare", small, small, "--out", str(tmp_path / "out")]) == 0
    heard = capsys.readouterr()
    assert "note: guidance: the first trace holds no guidance of picture 0; record it with" in heard.out
    assert "no recorded setting differs" in heard.out


def test_what_cannot_be_compared_is_refused(pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", *pair, "--words", "zebra", "--out", str(tmp_path / "out")]) == 2
    assert "in the first trace, 'zebra' was not recorded" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["compare", pair[0], str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err
