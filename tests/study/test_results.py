"""What lies on disk: results that verify, rows that merge, statuses that count."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from probe import Study
from probe.errors import OutputError
from probe.store.manifest import digest
from probe.study.card import _asked, means
from probe.study.laid import laid
from probe.study.plan import plan
from probe.study.question import Model
from probe.study.results import Made, Result, clock, look, place, replace_file, scan, sealed, status, table, write
from probe.study.rows import as_json, as_words, encode_rows, flat, merge

KEY = "0123456789abcdef" * 2


def row(key: str = KEY, **more: Any) -> dict[str, Any]:
    return {"key": key, "status": "done", "reason": None, "prompt": "a cat", "seed": 1, "seconds": 2.0} | more


def one(folder: Path, **more: Any) -> Path:
    write(folder, row(**more), Made(Image.new("RGB", (8, 8), "red")))
    return place(folder, more.get("key", KEY))


def test_a_result_comes_back(tmp_path: Path):
    home = one(tmp_path)
    result = look(tmp_path, KEY, "everything")
    assert result is not None
    assert (result.key, result.state, result.reason, result.seconds) == (KEY, "done", "", 2.0)
    assert result.holds(["pictures"]) and not result.holds(["traces"])
    assert dict(result.row) == row()
    assert set(result.files) == {"picture.png"}
    assert result.nbytes == (home / "picture.png").stat().st_size
    assert Image.open(home / "picture.png").getpixel((0, 0)) == (255, 0, 0)
    assert scan(tmp_path) == {KEY: result}
    assert [path.name for path in home.parent.iterdir()] == [KEY]


@pytest.mark.parametrize("name", ["picture.png", "manifest.json"])
def test_every_damage_is_noticed(name: str, tmp_path: Path):
    path = one(tmp_path) / name
    data = path.read_bytes()
    for i in range(0, len(data), 7):
        path.write_bytes(data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :])
        assert look(tmp_path, KEY, "hashes") is None, f"a flip at byte {i}"
    path.write_bytes(data[:-1])
    assert look(tmp_path, KEY) is None
    path.unlink()
    assert look(tmp_path, KEY) is None
    path.write_bytes(data)
    assert look(tmp_path, KEY, "everything") is not None


def test_a_result_belongs_to_its_key(tmp_path: Path):
    home = one(tmp_path)
    other = "f" * 32
    place(tmp_path, other).parent.mkdir(parents=True)
    home.rename(place(tmp_path, other))
    assert scan(tmp_path) == {}


HOSTILE = {
    "no row": {"row": None},
    "a row of nothing": {"row": {}},
    "no files": {"files": 3},
    "files elsewhere": {"files": {"../../secret": [1, "x"]}},
    "odd entries": {"files": {"picture.png": ["x"]}},
    "another schema": {"schema_version": 99},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_foreign_manifest_is_no_result(case: str, tmp_path: Path):
    """A seal says that nothing was damaged, not who wrote it."""
    path = one(tmp_path) / "manifest.json"
    body = json.loads(path.read_bytes()) | HOSTILE[case]
    rest = json.dumps({name: value for name, value in body.items() if name != "seal"}).encode()[1:]
    path.write_bytes(b'{"seal":"' + digest(rest).encode() + b'",' + rest)
    assert look(tmp_path, KEY) is None


def test_opening_a_study_runs_nothing_that_it_names(finished: Study):
    said = json.loads((finished.path / "resolved.json").read_text())
    said["scorers"] = [{"method": "antigravity:Flying"}]
    (finished.path / "resolved.json").write_text(json.dumps(said))
    code = "import sys, probe; s = probe.Study.open(sys.argv[1]); s.status(), s.table(), s.card(); "
    code += "print([name for name in ('torch', 'antigravity', 'probe.nurse') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, str(finished.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_newer_result_replaces_the_older_but_nothing_else(tmp_path: Path):
    home = one(tmp_path)
    write(tmp_path, row(status="failed", reason="X: y"), Made())
    result = look(tmp_path, KEY)
    assert result is not None and (result.state, result.reason) == ("failed", "X: y")
    assert result.holds(["pictures", "traces"])  # there is nothing to keep
    (home / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds 'thesis.txt', which no study wrote"):
        write(tmp_path, row(), Made())
    assert (home / "thesis.txt").read_text() == "mine"


def test_rows_of_different_shape_make_one_table():
    rows = [
        row(score=1, flags=[True, None], box={"x": 1}),
        row(key="f" * 32, score=0.5, flags=[None, None], note="x", mixed=1),
        row(key="e" * 32, score=math.nan, mixed="text"),
    ]
    merged = merge(rows).to_pandas()
    assert merged["score"].tolist()[:2] == [1.0, 0.5]
    assert merged["flags"][0].tolist() == [True, None]
    assert merged["mixed"].tolist()[1:] == ["1", "text"]
    assert merged["box"][0] == {"x": 1}
    again = pd.read_parquet(io.BytesIO(encode_rows(rows)))
    assert again["key"].tolist() == [r["key"] for r in rows]


def test_cells_of_several_values_become_text_and_others_stay():
    cells = {"flags": [True, None], "names": ["cat", "dog"], "sizes": [0.5, math.nan], "pairs": [[1, 2], []]}
    rows = merge([row(**cells, box={"x": 1}), row(key="f" * 32)]).to_pandas()
    assert flat(rows, as_json).loc[0, [*cells, "box"]].tolist() == [
        *("[true, null]", '["cat", "dog"]', "[0.5, null]", "[[1, 2], []]"),
        '{"x": 1}',
    ]
    assert flat(rows, as_words).loc[0, list(cells)].tolist() == ["True, -", "cat, dog", "0.5, -", "[1, 2], []"]
    single = ["key", "prompt", "seed", "seconds"]
    assert flat(rows, as_json)[single].equals(rows[single])
    assert flat(rows, as_json).loc[1, list(cells)].isna().all()


@pytest.fixture
def finished(tmp_path: Path) -> Study:
    """A study of six jobs, two of which failed, and one that is left."""
    study = Study(prompts=["a cat"], seeds="0-6", scorers=["eye"], folder=str(tmp_path), name="f")
    (tmp_path / "resolved.json").write_text(study.model_dump_json(exclude={"folder"}))
    for job in plan(study)[:6]:
        state = "done" if job.seed < 4 else "failed"
        scores = {"eye_good": job.seed > 0, "eye_size": float(job.seed), "eye_kind": "x"} if state == "done" else {}
        reason = None if state == "done" else f"OSError: <b>{job.seed}</b>"
        found = row(job.key, status=state, reason=reason, seed=job.seed, method="plain", device="cpu", versions="{}")
        write(tmp_path, found | scores, Made(Image.new("RGB", (8, 8))))
    return study


def test_a_status_counts(finished: Study):
    found = status(finished)
    assert (found.jobs, found.done, found.failed, found.left, found.ok) == (7, 4, 2, 1, False)
    assert (found.seconds, len(found.reasons)) == (2.0, 2)
    assert finished.status() == found


def test_the_table_is_in_the_order_of_the_plan(finished: Study):
    rows = table(finished)
    assert rows["seed"].tolist() == list(range(6))
    assert rows["eye_size"].tolist()[:4] == [0.0, 1.0, 2.0, 3.0]
    assert finished.table()["key"].tolist() == rows["key"].tolist()
    assert [value for value in rows["eye_good"].tolist() if value is not None] == [False, True, True, True]


def test_the_plan_is_laid_over_what_lies_there(tmp_path: Path):
    """Labels and columns are in no key: a row says what its study calls it now, not when it was made."""
    study = Study(prompts=[{"prompt": "a cat", "new": 1}], scorers=["eye"], folder=str(tmp_path))
    [job] = plan(study)
    write(tmp_path, row(job.key, method="old", new=0, gone=1, eye_size=3, device="cuda"), Made())
    found = laid(scan(tmp_path)[job.key], job, study).row
    assert {name: found[name] for name in ("method", "new", "eye_size", "device")} == {
        "method": "plain",
        "new": 1,
        "eye_size": 3,
        "device": "cuda",
    }
    assert "gone" not in found


def test_the_card_says_what_came_out_and_what_it_does_not_show(finished: Study):
    said = finished.card()
    assert "- 7 seeds: 0-6" in said
    assert "7 jobs: 4 done, 2 failed, 1 still to do. 2.0 s a job." in said
    assert "`OSError: <b>4</b>`" in said  # in a code span, where it is only text
    assert "| method | jobs | seconds | eye_good | eye_size |\n| --- | --- | --- | --- | --- |\n" in said
    assert "\n| plain | 4 | 2 | 0.75 | 1.5 |" in said
    assert "Scorers err." in said
    assert f"probe study run {finished.path}/resolved.json" in said


def test_the_card_names_the_guidance_that_goes_with_a_model():
    own = Model(source="menagerie", digest="menagerie:1", guidance=5)
    study = Study(prompts=["a cat"], models=[own, {"source": "x/y", "digest": "x/y@2"}])
    assert ("models", "`menagerie` (`menagerie:1`, guidance 5); `x/y` (`x/y@2`)") in _asked(study)
    named = study.model_copy(update={"guidance": (3.0,)})
    assert ("models", "`menagerie` (`menagerie:1`); `x/y` (`x/y@2`)") in _asked(named)


def test_means_of_nothing(finished: Study):
    rows = table(finished)
    assert means(rows[rows["status"] == "none"]) == ""


def test_each_result_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`experiments/bench_lists.py` says how long ten thousand take."""
    study = Study(prompts=["a cat"], seeds="0-99", folder=str(tmp_path), keep=[])
    (tmp_path / "resolved.json").write_text(study.model_dump_json(exclude={"folder"}))
    for job in plan(study):
        home = place(tmp_path, job.key)
        home.mkdir(parents=True)
        (home / "manifest.json").write_bytes(sealed(Result(row(job.key, score=0.5), 0, {})))
    opened = []
    monkeypatch.setattr(
        io, "open", lambda *given, real=io.open, **more: (opened.append(given[0]), real(*given, **more))[1]
    )
    assert len(study.table()) == 100
    assert sum(Path(path).name == "manifest.json" for path in opened) == 100


def test_times_for_people():
    assert [clock(s) for s in (0.5, 40, 600, 11_100)] == ["0.5 s", "40 s", "10 min", "3 h 05 min"]


def test_a_file_is_whole_or_the_old_one(tmp_path: Path):
    replace_file(tmp_path / "x", b"old")
    with pytest.raises(OutputError, match="cannot write"):
        replace_file(tmp_path / "none" / "x", b"new")
    replace_file(tmp_path / "x", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"new")]
