"""The experiment on concepts: what counts as right, its jobs, and its page from rows worked out by hand."""

import argparse
import math
from pathlib import Path

import pandas as pd
import pytest

import probe
from experiments import concept_recovery as experiment
from experiments import kept
from experiments.concept_questions import QUESTIONS, content
from probe.errors import BadInput
from probe.generator.card import insert

ANIMAL, DOCTOR = (next(q for q in QUESTIONS if q.prompt == prompt) for prompt in ("an animal", "a doctor"))


def concept(prompt: str, *words: str) -> probe.Concept:
    values = tuple(float(len(words) - i) for i in range(len(words)))
    return probe.Concept(prompt, words, values, {"text_encoder": 1.0})


def given(**changes: object) -> argparse.Namespace:
    asked = {"concepts": ["an animal", "a doctor"], "solvers": ["conceptor", "closed"], "again": 1, "small": False}
    return argparse.Namespace(**{**asked, "pictures": 8, "minutes": 45.0, **changes})


def row(job: experiment.Job, **found: object) -> dict[str, object]:
    words = "cat dog cow pig hen bee ant fox owl bat"
    base = {"seconds": 9.0, "processor": 4.0, "precision": 0.5, "men": None, "cosine": 0.9, "distance": 0.1}
    return {**job.name(8), **base, "kid": 0.0, "diversity": 0.3, "words": words, **found}


def test_right_words_are_counted_among_the_k_largest():
    assert experiment.precision(concept("an animal", "cat", "red", "dog", "snow"), ANIMAL) == 0.2
    assert experiment.precision(concept("a doctor", "man", "woman", "car", "red", "snow"), DOCTOR) == 0.4
    assert experiment.men(concept("a doctor", "man", "red", "woman")) == pytest.approx(0.75)
    assert experiment.men(concept("a doctor", "red")) is None
    assert all(len(question.parts & set(content())) >= question.k for question in QUESTIONS)


def test_the_reference_comes_last_at_each_seed_and_every_concept_has_a_solver_before_the_next():
    found = [(job.recipe.seed, job.solver, job.question.prompt) for job in experiment.jobs(given())]
    asked = [
        (s, n, p) for s in (0, experiment.APART) for n in ("closed", "conceptor") for p in ("an animal", "a doctor")
    ]
    assert found == asked


def test_the_page_says_what_it_rests_on_and_what_is_missing(root: Path):
    asked = given()
    first, second, slow, _, again, *_ = experiment.jobs(asked)
    other = "cat dog cow pig hen x y z u v"
    rows = pd.DataFrame(
        [
            row(slow, precision=0.7, processor=40.0),
            row(again, words=other),
            row(first),
            row(second, precision=0.2, men=0.6, processor=math.nan),
        ]
    )
    mine = experiment.asked_for(rows, asked)
    assert list(mine["solver"]) == ["closed", "closed", "conceptor", "closed"]
    page = experiment.page(mine, asked)
    assert "**4 of 8 rows are not measured yet.**" in page and "2 seeds" in page
    assert "| closed | 3 | 0.50 | 0.20 | 0.90 | 4 | 0.10 | 0.50 |" in page
    assert "| conceptor | 1 | 0.70 | - | 0.90 | 40 | 1.00 | - |" in page
    assert "| a doctor | closed | 0.20 | 0.60 (0.70) |" in page
    assert page in insert((root / "docs" / "concepts.md").read_text(), page)


def test_rows_go_to_the_folder_and_into_the_repository_only_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "concepts.md"
    page.write_text("<!-- table --><!-- /table -->")
    monkeypatch.setattr(experiment, "PAGE", page)
    monkeypatch.setattr(kept, "RESULTS", tmp_path / "results")
    published = kept.place(experiment.NAME)
    asked = given(out=tmp_path / "out", concepts=["a doctor"], solvers=["nearest"], again=0)
    (job,) = experiment.jobs(asked)
    kept.write(asked.out / published.name, pd.DataFrame([row(job, solver="elsewhere", precision=0.3)]))
    told = ["--out", str(asked.out), "--concepts", "a doctor", "--solvers", "nearest", "--minutes", "0"]
    experiment.main(told)
    assert "**1 of 1 rows are not measured yet.**" in capsys.readouterr().out
    kept.write(asked.out / published.name, pd.DataFrame([row(job, precision=0.3)]))
    experiment.main(told)
    assert "| nearest | 1 | - | 0.30 |" in capsys.readouterr().out and not published.exists()
    experiment.main([*told, "--write"])
    assert kept.read(published, experiment.COLUMNS)["precision"].tolist() == [0.3]
    assert "| nearest | 1 | - | 0.30 |" in page.read_text()
    with pytest.raises(BadInput, match="--small is a rehearsal, whose numbers mean nothing, and --write puts them"):
        experiment.main(["--small", "--write"])


def test_rows_of_another_question_are_left_out():
    rows = pd.DataFrame([row(job) for job in experiment.jobs(given(pictures=8))])
    assert len(experiment.asked_for(rows, given())) == 8
    assert experiment.asked_for(rows, given(pictures=32)).empty
