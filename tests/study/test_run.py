"""Studies that are really run: what they leave, that they go on, and that no job's trouble is another's."""

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import Image

import probe
from probe import Study
from probe.errors import BadInput, OutputError
from probe.generator import weights
from probe.study import Executor, Job, Local, Status, Work
from probe.study.engine import batches
from probe.study.plan import plan
from probe.study.resolve import resolve
from probe.study.results import Result, place, scan
from tests import pipelines

Make = Callable[..., Study]
HOME = "tests.study.moody"


def stamps(study: Study) -> dict[str, int]:
    """When each finished result was written: unchanged as long as nothing is done again."""
    return {key: (place(study.path, key) / "manifest.json").stat().st_mtime_ns for key in scan(study.path)}


def picture(study: Study, **of: Any) -> np.ndarray:
    table = study.table()
    for name, value in of.items():
        table = table[table[name] == value]
    [key] = table["key"]
    return np.asarray(Image.open(place(study.path, key) / "picture.png"))


def test_rows_pictures_and_traces(small: Make):
    row = {"prompt": "a cat and a red balloon", "subjects": ["cat", "balloon"], "subset": "x"}
    nursed = {"method": "AttendAndExcite", "label": "nursed", "subjects": "$subjects", "max_steps": 1}
    study = small(
        prompts=[row],
        seeds=[7],
        interventions=["plain", nursed],
        explainers=["attention"],
        scorers=["time", f"{HOME}:Brightness"],
        keep=["pictures", "traces"],
    )
    status = study.run()
    assert status.ok and str(status).startswith(f"{study.path}: 2 of 2 jobs done;")
    table = study.table()
    assert table["method"].tolist() == ["plain", "nursed"]
    assert table["intervention"].tolist() == ["plain", "AttendAndExcite"]
    assert json.loads(table["settings"][1])["subjects"] == ["cat", "balloon"]
    assert (table["seed"].tolist(), table["steps"].tolist(), table["guidance"].tolist()) == (
        [7] * 2,
        [2] * 2,
        [7.5] * 2,
    )
    assert (table["subset"].tolist(), table["model"].tolist()) == (["x"] * 2, ["tiny"] * 2)
    assert (table["width"].tolist(), table["height"].tolist()) == ([32] * 2, [48] * 2)
    for _, one in table.iterrows():
        home = place(study.path, one["key"])
        pixels = np.asarray(Image.open(home / "picture.png"))
        assert one[f"{HOME}:Brightness_mean"] == pytest.approx(pixels.mean() / 255)
        trace = probe.open(home / "trace")
        assert one["attention_max"].tolist() == pytest.approx(
            [float(probe.attention(trace, word).values.max()) for word in ("cat", "balloon")]
        )
        assert 0 < one["time_picture"] <= one["seconds"]
        assert one["time_step"] == pytest.approx(one["time_picture"] / 2)
    assert not np.array_equal(picture(study, method="plain"), picture(study, method="nursed"))
    assert (study.path / "table.parquet").is_file()
    assert not list((study.path / "running").iterdir())


def test_a_plain_job_is_the_pipelines_own_picture(small: Make):
    study = small(seeds=[5], guidance=3)
    study.run()
    pipe = pipelines.pipeline("sd1")
    options = {"prompt": "a cat and a dog", "width": 32, "height": 48, "guidance_scale": 3, "output_type": "pil"}
    [expected] = pipelines.run(pipe, "sd1", seed=5, **options)
    assert np.array_equal(picture(study), expected)


def test_strength_zero_is_plain_to_the_bit(small: Make):
    idle = {"method": "AttendAndExcite", "subjects": "$subjects", "strength": 0}
    study = small(seeds=[1], interventions=["plain", idle])
    assert study.run().ok
    assert np.array_equal(picture(study, method="plain"), picture(study, method="AttendAndExcite"))


def test_a_batch_makes_the_pictures_that_single_jobs_make(small: Make, tmp_path: Path):
    prompts = ["a cat", "a dog and a red balloon"]
    single, together = small(prompts=prompts), small(prompts=prompts, batch=3, folder=str(tmp_path / "batch"))
    assert single.run().ok and together.run().ok
    for seed in range(4):
        for prompt in prompts:
            one, other = (picture(s, seed=seed, prompt=prompt).astype(int) for s in (single, together))
            assert np.abs(one - other).max() <= 1


def test_what_is_done_is_not_done_again_and_a_study_may_grow(small: Make):
    study = small(seeds="0-1")
    study.run()
    before = stamps(study)
    done = list[int]()
    grown = small(seeds="0-3")
    assert grown.run(on_job=lambda progress: done.append(progress.finished)).ok
    assert done == [3, 4]
    assert before.items() <= stamps(grown).items()
    assert len(grown.table()) == 4 and len(scan(grown.path)) == 4


def test_labels_and_columns_that_changed_are_those_of_the_study(small: Make):
    """Of two methods in one folder, the label of the older is given to the newer: the rows do not become one method."""
    strong, weak = ({"method": "ScaleAttention", "factors": {"cat": factor}} for factor in (9, 1))
    small(seeds=[0], prompts=[{"prompt": "a cat", "subset": "one"}], interventions=[strong | {"label": "mine"}]).run()
    told = list[tuple[str, str]]()
    study = small(
        seeds=[0],
        prompts=[{"prompt": "a cat", "subset": "two"}],
        interventions=[strong | {"label": "strong"}, weak | {"label": "mine"}],
    )
    status = study.run(on_job=lambda p: told.append((p.result.row["method"], p.result.row["subset"])))
    assert (status.done, told) == (2, [("mine", "two")])
    for table in (study.table(), pd.read_parquet(study.path / "table.parquet")):
        assert table["method"].tolist() == ["strong", "mine"]
        assert [json.loads(each)["factors"] for each in table["settings"]] == [{"cat": 9}, {"cat": 1}]
        assert table["subset"].tolist() == ["two"] * 2
    assert "| strong | 1 |" in study.card() and "| mine | 1 |" in study.card()


def test_what_a_scorer_reads_of_a_row_decides_what_it_says(small: Make):
    def asked(**columns: Any) -> tuple[int, list[str]]:
        study, new = small(seeds=[0], prompts=[{"prompt": "a cat", **columns}], scorers=[f"{HOME}:Target"]), list[int]()
        assert study.run(on_job=lambda progress: new.append(progress.finished)).ok
        return len(new), study.table()[f"{HOME}:Target_asked"].tolist()

    assert asked(target=date(2001, 2, 3), other="x") == (1, ["2001-02-03"])
    assert asked(target="y", other="x") == (1, ["y"])
    assert asked(target="y", other="z") == (0, ["y"])
    assert [list(each) for each in small().table()[f"{HOME}:Target_given"]] == [["target"]]


def test_a_trace_that_is_wanted_later_is_made_later(small: Make):
    small(seeds=[0]).run()
    study = small(seeds=[0], keep=["pictures", "traces"])
    assert study.run().done == 1
    [key] = scan(study.path)
    assert probe.verify(place(study.path, key) / "trace").ok


def test_a_damaged_result_is_done_again(small: Make):
    study = small()
    study.run()
    first, second, third, fourth = sorted(scan(study.path))
    flipped, cut = place(study.path, first) / "picture.png", place(study.path, second) / "manifest.json"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    (place(study.path, third) / "picture.png").unlink()
    kept = stamps(study)[fourth]
    done = list[str]()
    assert study.run(on_job=lambda progress: done.append(progress.result.key)).ok
    assert sorted(done) == [first, second, third]
    assert stamps(study)[fourth] == kept
    assert sorted(scan(study.path, "everything")) == [first, second, third, fourth]


class Backwards(Executor):
    """Another executor: last job first, no batches, and tired after two."""

    def run(self, jobs: Sequence[Job], work: Work) -> Generator[Result]:
        with work.open() as worker:
            for job in jobs[:-3:-1]:
                yield from worker.do([job])


def test_executors_go_on_where_others_stopped(small: Make):
    study = small()
    status = study.run(executor=Backwards())
    assert (status.done, status.left) == (2, 2)
    assert "2 of 4 jobs done, 2 to do (about " in str(status)
    assert study.table()["seed"].tolist() == [2, 3]
    before = stamps(study)
    assert study.run(executor=Local()).ok
    assert before.items() <= stamps(study).items()
    assert study.table()["seed"].tolist() == [0, 1, 2, 3]


# Bad jobs.


def test_one_bad_job_is_a_row_and_stops_nothing(small: Make):
    moody = {"method": f"{HOME}:Moody", "label": "moody", "error": 2}
    status = small(scorers=[moody], batch=2).run()
    assert (status.done, status.failed, status.left, status.ok) == (3, 1, 0, False)
    assert status.reasons == {"ZeroDivisionError: a scorer that divides by zero": 1}
    table = small().path and Study.open(small().path).table()
    assert table["status"].tolist() == ["done", "done", "failed", "done"]
    assert table["moody_seed"].tolist()[:2] == [0, 1]
    assert not (place(small().path, table["key"][2]) / "picture.png").exists()


def test_a_picture_of_nan_is_a_row_with_its_reason(small: Make):
    status = small(seeds="0-1", guidance=[4, 1e38], batch=2).run()
    assert (status.done, status.failed) == (2, 2)
    assert list(status.reasons) == [
        "RecordingError: the picture holds NaN: lower the guidance or the strength, or take float32"
    ]


def test_a_subject_that_the_prompt_lacks(small: Make):
    nursed = {"method": "AttendAndExcite", "subjects": ["cat", "zebra"]}
    status = small(seeds=[0], interventions=["plain", nursed]).run()
    assert (status.done, status.failed) == (1, 1)
    assert "NoSuchWord: 'zebra' is not in the prompt" in next(iter(status.reasons))


def test_a_run_that_diverged_says_so(small: Make):
    nursed = {"method": "AttendAndExcite", "subjects": "$subjects", "scale_factor": 1e38}
    status = small(seeds=[0], interventions=[nursed]).run()
    [reason] = status.reasons
    assert reason.startswith("Diverged: AttendAndExcite: ")
    assert reason.endswith("; lower scale_factor, or run the denoiser in float32")


def test_failures_are_tried_again_only_when_asked(small: Make, tmp_path: Path):
    moody = {"method": f"{HOME}:Moody", "error": 1, "diary": str(tmp_path / "diary")}
    study = small(seeds="0-1", scorers=[moody])
    assert [study.run().failed for _ in range(2)] == [1, 1]
    assert len((tmp_path / "diary").read_text().split()) == 2
    assert study.run(retry=True).failed == 1
    assert len((tmp_path / "diary").read_text().split()) == 3


def test_too_many_failures_stop_a_run(small: Make):
    study = small(interventions=[{"method": "AttendAndExcite", "subjects": ["zebra"]}])
    status = study.run(max_failures=2)
    assert (status.failed, status.left) == (2, 2)


def test_a_model_that_cannot_be_loaded_fails_its_own_jobs_only(small: Make, model: str, tmp_path: Path):
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    status = small(seeds="0-1", models=[str(broken), model]).run()
    assert (status.done, status.failed) == (2, 2)


def test_a_batch_that_memory_does_not_hold_is_halved(small: Make, monkeypatch: pytest.MonkeyPatch):
    """The denoiser refuses more than four rows at once (two pictures with guidance), as a full device would."""
    tried = list[int]()

    def check(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        rows = (kwargs["sample"] if "sample" in kwargs else args[0]).shape[0]
        tried.append(rows)
        if rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def load(*args: Any, **kwargs: Any) -> Any:
        pipe = pipelines.load("sd1")
        pipe.unet.register_forward_pre_hook(check, with_kwargs=True)
        return pipe

    monkeypatch.setattr(weights, "load", load)
    assert small(batch=4).run().ok
    assert tried == [8, 4, 4, 4, 4]


def test_what_a_scorer_may_not_give(small: Make):
    status = small(seeds=[0], scorers=[f"{HOME}:Odd"]).run()
    assert "BadInput: self is a dict; a scorer gives numbers, texts" in next(iter(status.reasons))


def test_jobs_of_several_settings_are_no_batch(small: Make):
    study = resolve(small(seeds=[0], guidance=[1, 3]))
    work = Work(study, study.path)
    with work.open() as worker:
        results = list(worker.do(plan(study)))  # refused as a batch, done one by one
    assert [result.state for result in results] == ["done", "done"]


def test_batches_keep_models_apart_and_the_order():
    study = Study(prompts=["a", "b"], seeds="0-2", models=["m", "n"], interventions=["plain", {"method": "X"}])
    work = Work(study, Path())
    found = list(batches(plan(study), 4, work.group))
    assert sorted(job.key for batch in found for job in batch) == sorted(job.key for job in plan(study))
    assert [len(batch) for batch in found if batch[0].plain] == [4, 2] * 2
    assert all(len(batch) == 1 for batch in found if not batch[0].plain)
    order = [batch[0].model.source for batch in found]
    assert order == sorted(order)
    assert list(batches([], 4, work.group)) == []


# The folder.


def test_a_folder_of_something_else_is_refused(small: Make):
    study = small()
    study.path.mkdir()
    (study.path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds 'thesis.txt' and no study: choose another folder"):
        study.run()
    assert [path.name for path in study.path.iterdir()] == ["thesis.txt"]


def test_two_runs_in_one_folder_are_refused(small: Make):
    study = small()
    study.path.mkdir()
    with FileLock(study.path / ".lock"), pytest.raises(OutputError, match="another run is at work in .*wait for it"):
        study.run()


def test_interrupted_jobs_leave_no_mark_and_finished_ones_stay(small: Make):
    moody = {"method": f"{HOME}:Moody", "interrupt": 2}
    study = small(scorers=[moody])
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert not list((study.path / "running").iterdir())
    assert (study.status().done, study.status().left) == (2, 2)


def test_what_killed_writers_left_is_swept_away(small: Make):
    study = small(seeds=[0])
    study.run()
    [key] = scan(study.path)
    leftover = place(study.path, key).parent / f".{key}.12345678.partial"
    leftover.mkdir()
    (leftover / "picture.png").write_bytes(b"half")
    assert study.run().ok
    assert not leftover.exists()


def test_the_disk_is_asked_before_the_model(small: Make):
    study = small(folder="/proc/nowhere/study")
    with pytest.raises(OutputError, match="cannot use /proc/nowhere/study .*choose another folder"):
        study.run()


def test_an_empty_status_needs_a_run(small: Make):
    with pytest.raises(BadInput, match="holds no resolved.json"):
        small().status()


def test_the_status_says_how_long(tmp_path: Path):
    status = Status(tmp_path, 10, done=4, failed=1, seconds=60.0, reasons={"X: y": 1})
    assert str(status) == f"{tmp_path}: 4 of 10 jobs done, 1 failed, 5 to do (about 5 min); 0 bytes\n  1 x X: y"
