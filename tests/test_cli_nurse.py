"""`probe diagnose` and `probe nurse`, from the outside: what they say, what they write, and what they refuse."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import probe
from probe.cli import main
from probe.cli.parser import build
from tests import pipelines
from tests.test_cli import leave, listing

PROMPT = "a cat and a red balloon"


@pytest.fixture(scope="module")
def model() -> str:
    return str(pipelines.folder("sd1"))


@pytest.fixture(scope="module")
def nursed(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one `probe nurse` wrote. Look, and leave it as it is."""
    folder = tmp_path_factory.mktemp("nursed") / "cat"
    chosen = ["--subjects", "cat, balloon", "--steps", "3", "--seed", "5", "--set", "max_refinements=2"]
    assert main(["nurse", PROMPT, "--model", model, "--out", str(folder), *chosen]) == 0
    return folder


def test_nurse_writes_both_pictures_both_records_figures_and_report(nursed: Path):
    names = ["after.png", "before.png", "figures", "report.html", "settings.yaml", "trace", "trace-before"]
    assert sorted(p.name for p in nursed.iterdir()) == names
    drawn = {f"{name}.{kind}" for name in ("before-after", "nursing") for kind in ("png", "svg")}
    assert {p.name for p in (nursed / "figures").iterdir()} == drawn
    report = (nursed / "report.html").read_text(encoding="utf-8")
    assert "Without nursing" in report and "With AttendAndExcite" in report


def test_both_runs_start_from_one_noise_and_one_is_nursed(nursed: Path):
    plain, moved = probe.open(nursed / "trace-before"), probe.open(nursed / "trace")
    first = [t.node("latents")["latents"].isel(time=0).values for t in (plain, moved)]
    assert plain.run.seed == moved.run.seed == 5
    assert "nursing" not in plain.extra
    assert [entry["step"] for entry in moved.extra["nursing"]] == [0, 1, 2]
    assert np.isfinite(first[1]).all()
    again = pipelines.run(
        pipelines.pipeline("sd1"), "sd1", seed=5, prompt=PROMPT, num_inference_steps=3, output_type="pil",
        height=None, width=None, guidance_scale=7.5,
    )  # fmt: skip
    assert np.array_equal(np.asarray(Image.open(nursed / "before.png")), again[0])


def test_the_settings_can_be_run_again(nursed: Path):
    again = build().parse_args(["nurse", "--config", str(nursed / "settings.yaml")]).nurse
    assert (again.prompt, again.method, again.seed, again.set) == (PROMPT, "AttendAndExcite", 5, "max_refinements=2")


def test_where_nursing_runs_away_the_steps_before_are_saved(model: str, tmp_path: Path, capsys):
    asked = ["nurse", PROMPT, "--model", model, "--steps", "3", "--out", str(tmp_path / "a")]
    for name in ("a-diverged", "a-diverged-2"):
        assert main([*asked, "--set", "scale_factor=1e38; thresholds={}"]) == 1
        said = re.search(r"at step [12]; lower scale_factor.*: probe open (\S+)", capsys.readouterr().err)
        assert said and Path(said[1]) == tmp_path / name
        assert probe.open(tmp_path / name).extra["nursing"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-diverged", "a-diverged-2"]


def test_strength_zero_changes_nothing(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    chosen = ["--steps", "2", "--set", "strength=0; max_steps=3", "--out", str(tmp_path / "n")]
    assert main(["nurse", PROMPT, "--model", model, *chosen]) == 0
    before, after = (np.asarray(Image.open(tmp_path / "n" / f"{name}.png")) for name in ("before", "after"))
    assert np.array_equal(before, after)
    said = capsys.readouterr().out
    assert re.search(r"plain\n  cat: .*\n  balloon: .*\nAttendAndExcite\n  cat: ", said)


def test_notes_say_what_is_split_and_how_the_command_takes_another_scheduler(model: str, tmp_path: Path, capsys):
    chosen = ["--subjects", "xylophonist", "--set", "thresholds={}; max_steps=2", "--out", str(tmp_path / "n")]
    drawn = ["--model", model, "--steps", "4", "--scheduler", "PNDMScheduler"]
    assert main(["nurse", "a xylophonist and a cat", *drawn, *chosen]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    [lost] = [note for note in notes if "PNDMScheduler goes on" in note]
    [split] = [note for note in notes if "'xylophonist' in 9 pieces" in note]
    assert lost.endswith("(here: --scheduler DDIMScheduler)") and "goes by the last of them, 't'" in split
    assert probe.open(tmp_path / "n" / "trace").run.scheduler["class"] == "PNDMScheduler"
    assert "scheduler: PNDMScheduler" in (tmp_path / "n" / "settings.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["trace", "diagnose"])
def test_another_scheduler_draws_another_picture(command: str, model: str, tmp_path: Path):
    pictures = []
    for name in ("DDIMScheduler", "DDPMScheduler"):
        chosen = ["--model", model, "--steps", "2", "--scheduler", name, "--out", str(tmp_path / name)]
        assert main([command, PROMPT, *chosen]) == 0
        [picture] = (tmp_path / name).glob("*.png")
        pictures.append(picture.read_bytes())
    assert pictures[0] != pictures[1]


def test_diagnose_says_a_row_a_seed_and_sums_up(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    chosen = ["--seeds", "3-4", "--steps", "2", "--out", str(tmp_path / "d")]
    assert main(["diagnose", PROMPT, "--model", model, *chosen]) == 0
    said = capsys.readouterr()
    assert re.search(r"^seed 3\n  cat: .*\n  balloon: .*\nseed 4\n  cat: ", said.out)
    assert re.search(r"^balloon: \w+( attribute)? in [12] of 2", said.out, re.MULTILINE)
    assert "uncalibrated rules" in said.out or "By a calibration" in said.out
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "seed-3.png", "seed-4.png", "settings.yaml", "table.csv",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "d" / "table.csv")
    assert table[["seed", "subject"]].values.tolist() == [[s, w] for s in (3, 4) for w in ("cat", "balloon")]
    assert table["seen"].isna().all()  # no judge can tell of a random model


def sure_of_the_cat(picture: Image.Image, words: Sequence[str]) -> dict[str, float]:
    """A judge that sees a cat in everything, and no balloon."""
    return {word: float(word == "cat") for word in words}


@pytest.mark.parametrize("command", ["diagnose", "nurse"])
def test_a_judge_of_ones_own_looks_at_the_pictures(command: str, model: str, tmp_path: Path, capsys):
    chosen = ["--model", model, "--steps", "2", "--judge", f"{__name__}:sure_of_the_cat", "--out", str(tmp_path / "a")]
    assert main([command, PROMPT, *chosen]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^  cat: present \(.*the judge sees it", said, re.MULTILINE)
    assert re.search(r"^  balloon: neglected \(.*the judge does not see it", said, re.MULTILINE)


def test_diagnose_writes_nothing_unless_asked(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    chosen = ["--subjects", "cat", "--until", "1", "--steps", "1"]
    assert main(["diagnose", PROMPT, "--model", model, *chosen]) == 0
    assert list(tmp_path.iterdir()) == []


def test_on_menagerie_the_judge_looks_ahead(capsys: pytest.CaptureFixture[str]):
    assert main(["diagnose", PROMPT, "--until", "2"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^  cat: .*the judge expects it with \d+%; risk of neglect \d+%", said.out, re.MULTILINE)
    assert re.search(r"expects of the predicted picture\b.* 2 of 50 steps looked at\.", said.out)
    assert "the calibration is of the first 10 of 50 steps, this is of the first 2 of 50 steps" in said.err
    assert main(["diagnose", PROMPT, "--steps", "2", "--until", "2"]) == 0  # no step is left to look ahead
    assert "The judge's word counts where it can tell" in capsys.readouterr().out


def test_what_words_do_at_one_step_counts_if_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    options = ["--steps", "10", "--explain", "--out", str(tmp_path / "d")]
    assert main(["diagnose", PROMPT, *options, "--subjects", "cat,balloon"]) == 0
    assert "with the relevancy of the words at the last of its steps: neglected from a risk" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "d" / "table.csv")
    assert table["relevancy"].sum() == pytest.approx(1, abs=1e-3)
    assert table["leave_one_out"].sum() == pytest.approx(1, abs=1e-3)
    assert main(["diagnose", PROMPT, "--steps", "4", "--until", "2", "--explain"]) == 0


@pytest.mark.parametrize("command", ["diagnose", "nurse", "trace"])
def test_more_steps_than_there_are_levels_are_refused(command: str, model: str, tmp_path: Path, capsys):
    assert main([command, PROMPT, "--model", model, "--steps", "2000", "--out", str(tmp_path / "x")]) == 2
    assert "--steps 2000: this model knows 1000 levels of noise; take fewer steps" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


REFUSED = {
    "empty prompt": (["diagnose", " "], "the prompt is empty.*probe diagnose", 2),
    "no seeds": (["diagnose", PROMPT, "--seeds", "many"], "--seeds cannot be used:.*'many' is not a seed", 2),
    "no such subject": (
        ["diagnose", PROMPT, "--subjects", "owl"],
        "'owl' is not in the prompt; its words are: a, cat",
        2,
    ),
    "no subject at all": (["diagnose", "and with"], "no subject was found in 'and with'", 2),
    "no step": (["diagnose", PROMPT, "--until", "0"], "--until", 2),
    "no such method": (["nurse", PROMPT, "--method", "Attend"], "there is no intervention 'Attend'.*there are: ", 2),
    "nothing nursed": (["nurse", PROMPT, "--method", "plain"], "there is no intervention 'plain'", 2),
    "a missing setting": (["nurse", PROMPT, "--method", "BoxDiff"], "boxes: this is needed", 2),
    "an unknown setting": (["nurse", PROMPT, "--set", "strngth=1"], "strngth: there is no such field", 2),
    "no setting": (["nurse", PROMPT, "--set", "strength"], "--set 'strength' is not a list of settings; write it", 2),
    "no YAML": (["nurse", PROMPT, "--set", "strength=[1"], r"--set 'strength=\[1': .*write values as in YAML", 2),
    "no box": (
        ["nurse", PROMPT, "--method", "BoxDiff", "--boxes", "cat=a,b"],
        "--boxes 'cat=a,b': could not convert",
        2,
    ),
    "no scheduler": (
        ["nurse", PROMPT, "--scheduler", "DDIM"],
        "there is no scheduler 'DDIM' for this model; take DDIMScheduler, DDPMScheduler, ",
        2,
    ),
    "a share of three": (
        ["nurse", PROMPT, "--method", "BoxDiff", "--boxes", "cat=0,0,.5,1", "--set", "share=3"],
        r"share: Input should be less than or equal to 1 \(found 3\)",
        2,
    ),
    "a search of nothing": (
        ["nurse", PROMPT, "--method", "InitNO", "--set", "search={iterations: 0}"],
        r"search\.iterations: Input should be greater than 0 \(found 0\)",
        2,
    ),
    "one group": (
        ["nurse", PROMPT, "--method", "Separate", "--subjects", "cat"],
        r"Separate tells groups of words apart, .*: groups=\[\['red', 'car'\]",
        2,
    ),
    "nothing bound": (["nurse", PROMPT, "--method", "SynGen", "--set", "bindings={}"], "SynGen has no bindings; ", 2),
    "a second prompt": (["nurse", PROMPT, "--method", "PatchAttention"], "draws one prompt: .*--set 'recorded=FOL", 2),
    "no judge there": (["diagnose", PROMPT, "--judge", "tests:Nobody"], "the judge 'tests:Nobody' cannot be found", 2),
    "no judge": (
        ["nurse", PROMPT, "--judge", "tests.test_cli_nurse:PROMPT"],
        "a str is not a judge; give an object",
        2,
    ),
    "nobody to nurse": (["nurse", PROMPT, "--subjects", "owl"], "'owl' is not in the prompt", 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_clearly(case: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    typed, message, code = REFUSED[case]
    assert leave([*typed, "--model", model, "--steps", "2", "--out", str(tmp_path / "new" / "result")]) == code
    said = capsys.readouterr()
    assert re.search(message, said.err, re.DOTALL)
    assert "Traceback" not in said.err
    assert listing(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_lacks_a_package_is_refused(model: str, monkeypatch: pytest.MonkeyPatch, capsys):
    def lacking(*given: object) -> None:
        raise ImportError("\nit requires the torchsde library\n")

    monkeypatch.setattr("probe.cli.drawing.scheduled", lacking)
    assert main(["diagnose", PROMPT, "--model", model, "--scheduler", "DPMSolverSDEScheduler"]) == 2
    assert "--scheduler DPMSolverSDEScheduler: it requires the torchsde library; or take" in capsys.readouterr().err


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").write_text("years of work")
    for command in ("diagnose", "nurse"):
        assert main([command, PROMPT, "--model", model, "--out", str(tmp_path)]) == 1
        assert "exists already: choose another --out" in capsys.readouterr().err
    assert listing(tmp_path) == {"mine": b"years of work"}


def test_ctrl_c_leaves_nothing(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "diagnose", interrupt)  # as if at the end of the first run
    for command in ("diagnose", "nurse"):
        assert main([command, PROMPT, "--model", model, "--steps", "1", "--out", str(tmp_path / "x")]) == 130
    assert list(tmp_path.iterdir()) == []
