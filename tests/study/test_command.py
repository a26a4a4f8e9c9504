"""`probe study`, from the outside."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from probe.cli import main
from probe.cli.study import _counts
from probe.study import Status
from tests.study import moody

STUDY = """
question: Does it run?
prompts: [a cat and a dog]
seeds: 0-2
models: [{source: MODEL, label: tiny}]
steps: 2
size: 32x48
"""
MOODY = f"{moody.__name__}:Moody"
Make = Callable[..., str]


@pytest.fixture
def written(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes a study with further lines, and returns its path; results lie in out/ of the test's folder."""
    monkeypatch.chdir(tmp_path)

    def write(more: str = "", name: str = "tiny.yaml") -> str:
        (tmp_path / name).write_text(STUDY.replace("MODEL", model) + more)
        return name

    return write


def test_run_status_table_and_card(written: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = written()
    assert main(["study", "run", path]) == 0
    said = capsys.readouterr()
    assert re.search(r"^out/tiny: 3 of 3 jobs done; [\d,]+ bytes\n  out/tiny/table.parquet", said.out)
    assert "Traceback" not in said.err
    for given in (path, "out/tiny"):
        assert main(["study", "status", given]) == 0
        assert capsys.readouterr().out.startswith("out/tiny: 3 of 3 jobs done")
    assert main(["study", "table", "out/tiny"]) == 0
    rows = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert rows["seed"].tolist() == [0, 1, 2]
    for name in ("t.csv", "t.parquet"):
        assert main(["study", "table", path, "--to", name]) == 0
        read = pd.read_csv if name.endswith("csv") else pd.read_parquet
        assert read(name)["seed"].tolist() == [0, 1, 2]
    assert main(["study", "card", path]) == 0
    assert "Does it run?" in capsys.readouterr().out
    before = (tmp_path / "out/tiny/table.parquet").stat().st_mtime_ns
    assert main(["study", "run", "out/tiny/resolved.json"]) == 0  # what is done is done
    assert (tmp_path / "out/tiny/table.parquet").stat().st_mtime_ns >= before
    assert main(["study", "status", path, "--verify"]) == 0


def test_a_dry_run_writes_nothing(written: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    extra = "interventions: [plain, {method: AttendAndExcite, subjects: $subjects}]\nguidance: [1, 4]"
    path = written(extra)
    assert main(["study", "run", path, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "tiny: 1 prompts x 3 seeds x 2 interventions x 2 guidance = 12 jobs, in out/tiny" in said
    assert "done: 0, to do: 12" in said
    assert re.search(r"about [\d.]+ s and [\d,]+ bytes more \(2 kinds tried with two steps\)", said)
    assert [p.name for p in tmp_path.iterdir()] == [path]


def test_a_dry_run_after_a_part_is_measured_by_it(written: Make, capsys: pytest.CaptureFixture[str]):
    assert main(["study", "run", written()]) == 0
    capsys.readouterr()
    grown = Path(written())
    grown.write_text(grown.read_text().replace("0-2", "0-9"))
    assert main(["study", "run", str(grown), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "done: 3, to do: 7" in said
    assert "(as the finished jobs took)" in said


def test_a_dry_run_counts_failed_jobs_as_failed(written: Make, capsys: pytest.CaptureFixture[str]):
    path = written(f"scorers: [{{method: '{MOODY}', error: 1}}]")
    assert main(["study", "run", path, "--max-failures", "1"]) == 1
    Path(path).write_text(Path(path).read_text().replace("0-2", "0-1"))
    capsys.readouterr()
    assert main(["study", "run", path, "--dry-run"]) == 1
    assert "  done: 1, failed: 1, to do: 0\n" in capsys.readouterr().out
    assert main(["study", "run", path, "--dry-run", "--retry"]) == 0
    assert "  done: 1, to do: 1\n" in capsys.readouterr().out


def test_a_dry_run_counts_poisoned_jobs_as_poisoned(tmp_path: Path):
    status = Status(tmp_path, 1_005, done=1_000, failed=1, poisoned=2)
    assert _counts(status) == "done: 1,000, failed: 1, poisoned: 2, to do: 2"


def test_a_dry_run_says_what_will_fail(written: Make, capsys: pytest.CaptureFixture[str]):
    path = written("interventions: [{method: AttendAndExcite, subjects: [zebra]}]")
    assert main(["study", "run", path, "--dry-run"]) == 1
    assert "every job of AttendAndExcite may fail: NoSuchWord: 'zebra' is not in the prompt" in capsys.readouterr().out


def test_a_dry_run_tries_a_method_whole_that_needs_more_than_two_steps(
    written: Make, capsys: pytest.CaptureFixture[str]
):
    method = "{method: Adaptive, subjects: $subjects, watch: 2, predictor: null}"
    path = Path(written(f"interventions: [{method}]"))
    path.write_text(re.sub(r"steps: \d+", "steps: 4", path.read_text()))
    assert main(["study", "run", str(path), "--dry-run"]) == 0
    assert "may fail" not in capsys.readouterr().out


def test_failed_jobs_make_the_exit_code_one(written: Make, capsys: pytest.CaptureFixture[str]):
    path = written(f"scorers: [{{method: '{MOODY}', error: 1}}]")
    assert main(["study", "run", path, "--max-failures", "1", "--out", "elsewhere"]) == 1
    said = capsys.readouterr()
    assert re.search(r"elsewhere: 1 of 3 jobs done, 1 failed, 1 to do", said.out)
    assert "failed: ZeroDivisionError: a scorer that divides by zero" in said.err
    assert main(["study", "run", path, "--out", "elsewhere"]) == 1
    assert main(["study", "status", "elsewhere"]) == 1
    assert "2 of 3 jobs done, 1 failed;" in capsys.readouterr().out


def test_an_interruption_keeps_what_is_finished(written: Make, capsys: pytest.CaptureFixture[str]):
    path = written(f"scorers: [{{method: '{MOODY}', interrupt: 1}}]")
    assert main(["study", "run", path]) == 130
    assert "interrupted; what is finished stays in out/tiny. Run the same command to resume" in capsys.readouterr().err
    assert main(["study", "status", path]) == 0
    assert "1 of 3 jobs done, 2 to do" in capsys.readouterr().out


REFUSED = {
    "no file": (["run", "none.yaml"], "cannot read 'none.yaml'"),
    "no study": (["status", "."], "holds no resolved.json, so no study was run there"),
    "not run yet": (["table", "tiny.yaml"], "holds no resolved.json"),
    "bad field": (["run", "bad.yaml"], "seedz: there is no such field; did you mean 'seeds'?"),
    "no verb": ([], "required|VERB|verb"),
    "no such verb": (["stat"], "stat"),
    "bad number": (["run", "tiny.yaml", "--max-failures", "0"], "--max-failures takes a whole number from 1 on, not 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_use_is_exit_code_two(case: str, written: Make, capsys: pytest.CaptureFixture[str]):
    written()
    written("seedz: 3\n", "bad.yaml")
    typed, message = REFUSED[case]
    try:
        code = main(["study", *typed])
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr()
    assert code == 2
    assert re.search(message, said.err)
    assert "Traceback" not in said.err
    assert not Path("out").exists()


def test_a_table_needs_a_known_ending(written: Make, capsys: pytest.CaptureFixture[str]):
    path = written()
    assert main(["study", "run", path]) == 0
    assert main(["study", "table", path, "--to", "table.xlsx"]) == 2
    assert "ends in neither .csv nor .parquet" in capsys.readouterr().err


def test_lists_are_json_in_a_file_and_words_in_print(written: Make, capsys: pytest.CaptureFixture[str]):
    path = written("explainers: [attention]")
    assert main(["study", "run", path]) == 0
    capsys.readouterr()
    assert main(["study", "table", path]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert (printed["subjects"][0], printed["attributes"][0]) == ("cat, dog", "-, -")
    assert main(["study", "table", path, "--to", "t.csv"]) == 0
    assert main(["study", "table", path, "--to", "t.parquet"]) == 0
    read, exact = pd.read_csv("t.csv"), pd.read_parquet("t.parquet")
    assert (read["subjects"][0], read["attributes"][0], read["notes"][0]) == ('["cat", "dog"]', "[null, null]", "[]")
    assert json.loads(read["attention_max"][0]) == exact["attention_max"][0].tolist()
