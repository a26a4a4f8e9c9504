"""The experiments of diagnosis and nursing, on numbers worked out by hand: fits, intervals, distances, pages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probe
from experiments import calibrate_diagnosis as calibrate
from experiments import diagnosis_rows, kept, neglect_page, neglect_rows, nurse_failures, nurse_gallery
from experiments import neglect_benchmark as benchmark
from probe.errors import BadInput, DamagedFile
from probe.generator import weights
from probe.generator.card import MARKS
from probe.nurse.diagnosis_calibration import Calibration, read
from probe.study import Method, Study
from probe.study.nursing import nurse_for
from probe.study.plan import plan
from probe.study.resolve import resolve

Make = Callable[..., Study]


@pytest.fixture(autouse=True)
def known_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "RESAMPLES", 50)
    monkeypatch.setattr(neglect_page, "RESAMPLES", 50)


def rows(prompts: int = 40, noise: float = 0.0) -> pd.DataFrame:
    """Two subjects a prompt, the second neglected; `relative` tells them apart, as far as noise allows."""
    rng = np.random.default_rng(0)
    made = [
        {
            "picture": i,
            "prompt": f"p{i}",
            "neglected": bool(k),
            **dict.fromkeys((*calibrate.ATTENDED, "preview"), 1.0),
        }
        | {"relative": 1.0 - 0.8 * k + noise * rng.standard_normal(), "kept": rng.random()}
        for i in range(prompts)
        for k in range(2)
    ]
    return pd.DataFrame(made)


def test_a_signal_that_tells_all_and_one_that_tells_nothing():
    assert calibrate.fit(rows(), ["relative"]).auc == 1.0
    assert 0.3 < calibrate.fit(rows(), ["kept"]).auc < 0.7
    perfect = calibrate.fit(rows(), ["relative"])
    assert perfect.interval() == (1.0, 1.0)
    assert perfect.brier < 0.05


def test_no_prompt_is_in_both_halves(monkeypatch: pytest.MonkeyPatch):
    """A signal that is the prompt's number says nothing of prompts that were not fitted."""
    frame = rows()
    frame["relative"] = frame["picture"] % 2 * 1.0
    frame["neglected"] = np.random.default_rng(1).random(40)[frame["picture"]] < 0.5
    assert calibrate.fit(frame, ["relative"]).auc < 0.75


def test_the_coefficients_are_those_of_the_fit():
    frame = rows(noise=0.3)
    best = calibrate.fit(frame, ["relative"])
    made = calibrate.calibrated(frame, best, steps=50, until=10)
    model = calibrate._model().fit(frame[["relative"]].to_numpy(), frame["neglected"].to_numpy())
    expected = model.predict_proba([[0.4]])[0, 1]
    assert made.probability({"relative": 0.4}) == pytest.approx(expected, rel=1e-9)
    assert (made.pictures, made.until, made.steps, made.auc) == (40, 10, 50, best.auc)
    assert Calibration.model_validate_json(made.model_dump_json()) == made


def test_what_cannot_be_fitted():
    frame = rows().assign(neglected=True)
    with pytest.raises(BadInput, match="80 of 80 subjects are neglected; take more --pictures"):
        calibrate.fit(frame, ["relative"])
    with pytest.raises(BadInput, match="presence is not known for every subject; leave it out: --signals"):
        calibrate.fit(rows().assign(presence=np.nan), ["presence", "relative"])
    with pytest.raises(BadInput, match="--write needs 500 pictures or more, not 8"):
        calibrate.main(["--pictures", "8", "--write"])


def test_the_page_says_what_it_rests_on():
    frame = rows()
    found = calibrate.fit(frame, ["relative"])
    told = calibrate.page(frame, [found], {"attention": found}, steps=50, until=10)
    assert "where 100% are found and 100% right" in told
    assert told.startswith("40 pictures of two subjects each, 40 prompts; signals of the first 10 of 50 steps; 50% of")
    assert "| relative | 1.000 | 1.000 to 1.000 |" in told
    assert len(calibrate.fit(frame, ["relative"]).predictor().false_positives) > 1


@pytest.mark.parametrize("explained", [False, True])
def test_calibrations_and_their_page_are_written_at_once(
    explained: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path
):
    monkeypatch.setattr(calibrate, "LEAST", 40)
    monkeypatch.setattr(calibrate, "SHIPPED", {kind: tmp_path / f"{kind}.json" for kind in calibrate.SHIPPED})
    for name, file in (("PAGE", "page.md"), ("FIGURE", "figure.png"), ("OTHERS", "others.png")):
        monkeypatch.setattr(calibrate, name, tmp_path / file)
    (tmp_path / "page.md").write_text("\n".join(MARKS))
    frame = rows(noise=0.3).assign(subject=["cat", "dog"] * 40)
    told = -3.0 * frame["neglected"] + np.random.default_rng(2).standard_normal(len(frame))
    frame = frame.assign(preview=told, relevancy=told, leave_one_out=1.0)
    plain = frame if explained else frame.drop(columns=["relevancy", "leave_one_out"])
    monkeypatch.setattr(calibrate, "collect", lambda folder, *_, **__: frame if folder.name == "explained" else plain)
    calibrate.main(["--write", *(["--explained", "40"] if explained else [])])
    made = {path.stem: read(path) for path in sorted(tmp_path.glob("*.json"))}
    assert list(made) == ["attention", "preview", *(["relevancy"] if explained else [])]
    assert made["attention"].signals == calibrate.SIGNALS
    assert made["preview"].signals == (*calibrate.SIGNALS, "preview")
    assert made["preview"].auc > made["attention"].auc > 0.5
    assert f"| look ahead, shipped | {made['preview'].auc:.3f} |" in (tmp_path / "page.md").read_text()
    assert all((tmp_path / file).stat().st_size > 0 for file in ("figure.png", "others.png"))


def test_the_threshold_is_where_f1_is_largest():
    """By hand: from 0.6 on both are right, of three (F1 0.8); from 0.4 on all three are found, of four (6/7)."""
    neglected = np.array([True, True, False, True, False, False])
    chances = np.array([0.9, 0.6, 0.5, 0.4, 0.2, 0.1])
    found = calibrate.Fit("x", neglected, chances, np.arange(6))
    assert calibrate.best_threshold(found) == 0.4
    assert calibrate.at_threshold(found) == "from 0.40 on, where 100% are found and 75% right"


def test_what_is_known_of_some_subjects_is_fitted_to_these(tmp_path: Path):
    frame = rows(noise=0.3).assign(subject=["cat", "dog"] * 40)
    some = frame.loc[frame["picture"] < 20, ["picture", "subject"]]
    more = some.assign(relevancy=frame["relative"], leave_one_out=0.5)
    joined = diagnosis_rows.with_explained(frame.assign(relevancy=np.nan), more)
    assert joined["relevancy"].notna().sum() == 40
    assert [fit.name for fit in calibrate.partly(joined)] == [
        "relevancy, of 40 subjects",
        "leave_one_out, of 40 subjects",
    ]


def test_explaining_ends_the_run_where_nothing_more_is_looked_at():
    pipe = probe.load()
    found = list(diagnosis_rows.explain(pipe, 0, steps=4, until=2))
    assert [set(row) for row in found] == [{"picture", "subject", "relevancy", "leave_one_out"}] * 2
    assert sum(row["relevancy"] for row in found) == pytest.approx(1, abs=1e-3)


def test_nothing_is_told_ahead_of_a_finished_picture(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        calibrate.main(["--steps", "4", "--until", "4"])
    assert "--until is 4 of 4 steps: nothing can be told ahead of the picture then" in capsys.readouterr().err


@pytest.mark.parametrize("module", [calibrate, benchmark])
def test_the_pages_have_a_place_for_the_table(module: object, root: Path):
    assert all(mark in (root / module.PAGE).read_text() for mark in MARKS)


def table(after: float = 1.0) -> pd.DataFrame:
    """Four prompts; plain shows all subjects in half of them, the method in all."""
    made = []
    for i in range(4):
        for method, shown in (("plain", i < 2), ("AttendAndExcite", i < 4 * after)):
            made.append({
                "method": method, "prompt": f"p{i}", "seed": 0, "steps": 50, "guidance": 5.0, "subset": "animal-animal",
                "judge_all_present": shown, "judge_all_right": None, "judge_fused": False, "clip_full": 0.3,
                "clip_least": 0.2, "time_picture": 1.0 if method == "plain" else 1.5, "key": f"{method}{i}",
                "seconds": 2.0, "status": "done", "created": f"2026-01-01T00:0{i}:00+00:00",
                "features_parts": np.eye(4, 8)[i] * 1000,
            })  # fmt: skip
    return pd.DataFrame(made)


def test_means_over_prompts_and_their_paired_differences():
    plain = neglect_page.estimate(table(), "plain", "judge_all_present")
    nursed = neglect_page.estimate(table(), "AttendAndExcite", "judge_all_present")
    assert (plain.value, nursed.value, nursed.difference) == (0.5, 1.0, 0.5)
    assert 0 <= nursed.low <= 0.5 <= nursed.high <= 1
    assert neglect_page.neglect_cut(table(), "AttendAndExcite") == 1.0
    assert np.isnan(neglect_page.estimate(table(), "AttendAndExcite", "judge_all_right").value)


def test_a_method_of_which_nothing_came_of_one_subset_leaves_its_cell_empty():
    rest = table().assign(subset=["animal-animal"] * 6 + ["object-object"] * 2)
    rest = rest.loc[(rest["subset"] == "animal-animal") | (rest["method"] == "plain")]
    line = neglect_page.by_subset(rest, ["plain", "AttendAndExcite"])[-1]
    assert line.endswith("|  |") and "| 1.000 (" in line


def aim(rows: pd.DataFrame) -> str:
    """What is said of the aim where all methods did the same."""
    return neglect_page.conclusion(rows, rows, rows)


def test_the_page_says_whether_the_aim_is_reached_and_who_is_ahead_of_adaptive():
    base = table()
    plain, nursed = (base.loc[base["method"] == name] for name in ("plain", "AttendAndExcite"))
    plain, good = plain.assign(judge_all_present=False), nursed.assign(judge_all_present=True, method="Conform")
    slow = good.assign(method="Separate", time_picture=3 * good["time_picture"])
    told = aim(pd.concat([plain, good.assign(method="Adaptive", judge_all_present=False), good, slow]))
    assert told == (
        "The aim is to cut neglect by 60% at no more than 2 times the time. It is reached: on 4 pictures "
        "Conform cuts 100% at 1.50 times. Adaptive, which nurses on demand, is behind Conform, Separate."
    )
    assert "It is not reached: on 4 pictures Adaptive cuts 0%" in aim(
        pd.concat([plain, good.assign(method="Adaptive", judge_all_present=False), slow])
    )
    assert aim(plain).endswith("Nothing here tells whether it is reached.")


def test_the_pictures_that_a_method_spoiled_most_come_first():
    base = table()
    plain = base.loc[base["method"] == "plain"].assign(steps=50, clip_full=[0.5, 0.5, 0.5, 0.5])
    plain["judge_all_present"] = [True, True, False, False]
    nursed = plain.assign(
        method="SynGen", judge_all_present=[False, False, False, True], clip_full=[0.4, 0.2, 0.1, 0.5]
    )
    said = {"subjects": [["cat", "dog"]] * 8, "judge_present": [[True, False]] * 8}
    found = nurse_failures.failures(pd.concat([plain, nursed]).assign(**said), 2)
    assert [one.prompt for one in found] == plain["prompt"].tolist()[1::-1]
    assert str(found[0]) == "SynGen: no dog" and found[0].steps == 50
    with pytest.raises(BadInput, match="no rows of these weights are kept; run experiments/neglect_benchmark.py"):
        nurse_failures.failures(plain.iloc[:0], 2)


def test_times_are_compared_of_pictures_that_were_made_together():
    rows = table()
    nursed = rows["method"] == "AttendAndExcite"
    rows.loc[nursed & (rows["prompt"] == "p0"), "time_picture"] = 9.0
    rows.loc[nursed & (rows["prompt"] == "p0"), "created"] = "2026-01-01T00:20:00+00:00"
    assert neglect_page.price(rows, "AttendAndExcite") == 1.5
    rows.loc[nursed, "created"] = "2026-01-02T00:00:00+00:00"
    assert np.isnan(neglect_page.price(rows, "AttendAndExcite"))


def test_an_interval_is_paired():
    """Where every prompt gains the same, there is no doubt about it, however different the prompts are."""
    assert neglect_page.paired(np.full(20, 0.25)) == (0.25, 0.25)


def test_the_kernel_distance_by_hand():
    X, Y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    inside = (1.0 + 1.0) / 2 + (8.0 + 8.0) / 2  # off the diagonals: orthogonal rows, equal rows
    between = (8.0 + 1.0) / 2
    assert neglect_page.kid(X, Y) == pytest.approx(inside - 2 * between)
    assert neglect_page.kid(X, X) == 0.0
    assert np.isnan(neglect_page.kid(X[:1], Y[:1]))
    rng = np.random.default_rng(0)
    same, far = rng.standard_normal((2, 300, 8)) / np.sqrt(8)
    assert abs(neglect_page.kid(same, far)) < 0.05 < neglect_page.kid(same, far + 0.5)


def test_the_question_has_every_method_with_what_the_prompt_says():
    given = benchmark.arguments(["--prompts", "3", "--seeds", "0-1", "--methods", "AttendAndExcite", "SynGen"])
    study = benchmark.study(given.methods, given)
    assert [method.name for method in study.interventions] == ["plain", "AttendAndExcite", "SynGen"]
    assert len(plan(study)) == 3 * 3 * 2
    assert {row.columns["subset"] for row in study.rows} == {"animal-animal", "animal-object", "object-object"}
    assert len(benchmark.study(["SynGen"], benchmark.arguments([])).rows) == 276
    assert "BoxDiff" not in benchmark.prompt_methods()


def test_published_figures_are_set_apart():
    told = neglect_page.page(table(), neglect_page.Asked(4, 1, failed=1), table())
    assert told.startswith("4 prompts (4 animal-animal) x 1 seed, 4 pictures a method; 50 steps, guidance 5")
    assert "| plain | 0.500 |" in told
    assert "1 jobs failed" in told
    line = next(line for line in told.splitlines() if line.startswith("| AttendAndExcite | 1.000"))
    assert line.split(" | ")[-3:] == ["-100%", "1.50", "0.0 |"]
    assert told.index("Published, and not comparable: another model, another scorer") > told.index("| AttendAndExcite")
    assert all(line.count("|") == 10 for line in told.splitlines()[2:6] if line)


def test_a_part_says_that_it_is_one():
    told = neglect_page.Asked(276, 8).told(table())
    assert told.endswith("**a part of the 276 x 8 that were asked for**, namely what every method was done with")


def test_methods_that_were_tried_on_more_are_told_apart_and_tell_of_the_aim():
    other = table().loc[[1, 3]].assign(method="SynGen", key=["s0", "s1"])
    every = pd.concat([table(), other])
    names = ["plain", "AttendAndExcite", "SynGen"]
    whole = neglect_rows.whole_cells(every, names)
    told = neglect_page.page(whole, neglect_page.Asked(4, 1), every)
    assert told.startswith("2 prompts (2 animal-animal)") and "by every method took 6 s in the median" in told
    assert "on 4 pictures AttendAndExcite cuts 100% at 1.50 times" in told
    repaired = "AttendAndExcite repaired 2 of the 2 pictures that lacked a subject, and spoiled 0 of the other 2."
    assert repaired in told
    more = told[told.index("Tried on more: 4 prompts (4 animal-animal) x 1 seed, 4 pictures a method.") :]
    assert "| plain | 0.500 |" in more and "| AttendAndExcite | 1.000" in more and "SynGen" not in more
    assert neglect_page.widest(every, every, names) is every
    assert not neglect_page.by_seed(every, names)


def test_each_noise_is_told_apart():
    again = table().loc[2:3].assign(seed=5, judge_all_present=[False, True])
    told = neglect_page.by_seed(pd.concat([table(), again]), ["plain", "AttendAndExcite"])
    assert told[0] == "| method | seed 0 | seed 5 |" and told[2] == "| pictures | 4 | 1 |"
    assert told[3:5] == ["| plain | 0.500 | 0.000 |", "| AttendAndExcite | 1.000 | 1.000 |"]
    assert told[5] == "| AttendAndExcite, spoiled | 0 of 2 | 0 of 0 |"


def test_what_was_spoiled_is_counted_by_noise():
    spoilt = table().assign(judge_all_present=[True, False] * 4)
    told = neglect_page.by_seed(pd.concat([spoilt, table().loc[2:3].assign(seed=5)]), ["plain", "AttendAndExcite"])
    assert told[5].startswith("| AttendAndExcite, spoiled | 4 of 4 |")


def test_only_whole_cells_are_compared():
    part = table().drop(index=1)  # the method's picture of the first prompt
    part.loc[3, "status"] = "failed"
    methods = ["plain", "AttendAndExcite"]
    assert neglect_rows.whole_cells(part, methods)["prompt"].tolist() == ["p2", "p2", "p3", "p3"]
    assert not len(neglect_rows.whole_cells(part, [*methods, "SynGen"]))


def test_every_beginning_of_the_prompts_is_balanced():
    rows = Study(prompts="attend-and-excite").rows
    order = neglect_rows.spread(rows)
    assert sorted(row.prompt for row in order) == sorted(row.prompt for row in rows)
    for count in (3, 24, 198):
        subsets = [row.columns["subset"] for row in neglect_rows.spread(rows, count)]
        assert {subsets.count(subset) for subset in neglect_page.SUBSETS} == {count // 3}
    assert neglect_rows.corput(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert sorted(neglect_rows.corput(66)) == list(range(66)) and neglect_rows.corput(1) == [0]


def test_a_run_goes_cell_by_cell_and_does_not_do_what_is_kept(small: Make):
    given = benchmark.arguments(["--prompts", "2", "--seeds", "3, 1", "--methods", "SynGen"])
    first, second = (row.prompt for row in benchmark.study(["SynGen"], given).rows)
    found = [(job.seed, job.row.prompt, job.method.name) for job in plan(benchmark.study(["SynGen"], given))]
    assert found == [(s, p, m) for s in (3, 1) for p in (first, second) for m in ("plain", "SynGen")]
    asked = small(prompts=["a cat", "a dog"], seeds=[3, 1], order="seeds")
    assert asked.run(executor=neglect_rows.Timed(minutes=0)).done == 0
    known = [job.key for job in plan(Study.open(asked.path)) if job.seed == 3]
    assert asked.run(executor=neglect_rows.Timed(known=known)).done == 2
    assert set(asked.table()["seed"]) == {1}


def test_a_part_has_met_all_seeds():
    given = benchmark.arguments(["--prompts", "4", "--seeds", "0-2", "--methods", "SynGen"])
    asked = plan(benchmark.study(["SynGen"], given))
    jobs = neglect_rows.in_turns(asked)
    assert sorted(job.key for job in jobs) == sorted(job.key for job in asked)
    assert [job.seed for job in jobs[::2]] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert [job.row.prompt for job in jobs[::2]] == [row.prompt for row in benchmark.study(["SynGen"], given).rows] * 3
    assert [job.method.name for job in jobs] == ["plain", "SynGen"] * 12


def test_prompts_that_no_cell_was_done_of_come_first(small: Make):
    """Of three prompts the second was done at the seed that the first would begin with: it comes after both others."""
    asked = small(prompts=["a cat", "a dog", "a car"], seeds=[3, 1], interventions=["plain"], order="seeds")
    known = [job.key for job in plan(resolve(asked)) if (job.row.prompt, job.seed) == ("a dog", 3)]
    turns = [(job.row.prompt, job.seed) for job in neglect_rows.in_turns(plan(resolve(asked)), known)]
    assert turns == [("a cat", 3), ("a dog", 3), ("a car", 3), ("a cat", 1), ("a dog", 1), ("a car", 1)]
    done = []
    asked.run(executor=neglect_rows.Timed(known=known), on_job=lambda one: done.append(one.result.row["prompt"]))
    assert done == ["a cat", "a car", "a cat", "a dog", "a car"]


def test_what_lies_in_the_folder_counts_as_done(small: Make):
    asked = small(prompts=["a cat", "a dog"], seeds=[3, 1], interventions=["plain"], order="seeds")
    rest = [job.key for job in plan(resolve(asked)) if (job.row.prompt, job.seed) != ("a cat", 1)]
    asked.run(executor=neglect_rows.Timed(known=rest))
    done = []
    asked.run(executor=neglect_rows.Timed(), on_job=lambda one: done.append(one.result.row["prompt"]))
    assert done == ["a dog", "a cat", "a dog"]


def test_time_ends_a_run_after_a_whole_cell(small: Make, monkeypatch: pytest.MonkeyPatch):
    nursed = {"method": "AttendAndExcite", "subjects": "$subjects", "max_steps": 1}
    asked = small(
        prompts=["a cat and a dog", "a dog and a car"], seeds=[0], interventions=["plain", nursed], order="seeds"
    )
    hours = iter([0.0, 0.0, 1.0])
    monkeypatch.setattr(neglect_rows.time, "monotonic", lambda: next(hours, 7200.0))
    asked.run(executor=neglect_rows.Timed(minutes=60))
    assert asked.table()[["prompt", "method"]].to_numpy().tolist() == [
        ["a cat and a dog", "plain"],
        ["a cat and a dog", "AttendAndExcite"],
    ]


def test_rows_are_kept_and_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "RESULTS", tmp_path / "results")
    path = kept.place("neglect", kept.PARQUET)
    assert path.name == f"neglect-{weights.revision()[:12]}.parquet"
    assert kept.read(path, ["key"]).empty
    kept.write(path, table().iloc[:4])
    kept.write(path, kept.merged(kept.read(path, ["key"]), table(after=0.0).iloc[2:], ["key"]))
    found = kept.read(path, ["key", "subset"]).set_index("key").loc[table()["key"]].reset_index()
    assert found["judge_all_present"].tolist() == [True, True, True, False, False, False, False, False]
    asked = neglect_page.Asked(4, 1)
    expected = table().assign(judge_all_present=found["judge_all_present"])
    assert neglect_page.page(found, asked, found) == neglect_page.page(expected, asked, expected)
    with pytest.raises(DamagedFile, match=r"neglect-.*parquet has no column guidance_scale; it is of another exper"):
        kept.read(path, ["key", "guidance_scale"])


def test_rows_that_are_kept_come_in_the_order_of_the_study():
    given = benchmark.arguments(["--prompts", "1", "--seeds", "0-1", "--methods", "SynGen", "AttendAndExcite"])
    made = benchmark.study(given.methods, given)
    jobs = plan(made)
    rows = pd.DataFrame({"key": sorted(job.key for job in jobs)} | {"method": "?"})
    more = pd.concat([rows, pd.DataFrame({"key": ["f" * 32], "method": ["of other settings"]})])
    assert benchmark.planned(more, made)["key"].tolist() == [job.key for job in jobs]


def test_a_key_knows_the_settings_that_nobody_gave():
    """A run writes them out before it plans, so rows of an older default are not taken for those of a newer one."""
    made = benchmark.study(["AttendAndExcite"], benchmark.arguments(["--prompts", "1", "--seeds", "0"]))
    _, job = plan(resolve(made))
    assert job.method.settings["scale_factor"] == 20.0
    built = nurse_for("AttendAndExcite", job.row.prompt)
    assert job.method.settings == built.model_dump(mode="json")
    sizes = {"scale_factor": 20.0}, {"scale_factor": 10.0}
    given = [Method(method="AttendAndExcite", subjects="$subjects", **size) for size in sizes]
    keys = [plan(resolve(made.model_copy(update={"interventions": (one,)})))[0].key for one in given]
    assert keys[0] == job.key != keys[1]


def test_the_gallery_has_twelve_prompts_of_the_language():
    assert len(set(nurse_gallery.PROMPTS)) == 12
    assert all(len(nurse_for("AttendAndExcite", prompt).subjects) == 2 for prompt in nurse_gallery.PROMPTS)
