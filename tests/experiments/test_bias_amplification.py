"""The experiment on bias: its question as data, and its page from numbers worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest

import probe
from experiments import bias_amplification as experiment
from experiments import kept
from probe.bias import Audit, Confusion
from probe.bias.classifiers import MenagerieJudge
from probe.bias.tables import Known
from probe.errors import BadInput
from probe.generator.card import MARKS, insert
from probe.generator.world.vocabulary import MAN_SHARE, PROFESSIONS
from probe.study import Shot


def rows(shift: int) -> pd.DataFrame:
    """Each profession with its planted share of men at guidance 1, and `shift` more of the majority at guidance 5."""
    found = []
    for scale, more in ((1.0, 0), (5.0, shift)):
        for job in PROFESSIONS:
            men = round(100 * MAN_SHARE[job]) + (more if MAN_SHARE[job] > 0.5 else -more)
            for seed in range(100):
                read = {"perceived_gender": "man" if seed < men else "woman", "perceived_tone": "light"}
                one = {"status": "done", "model": "menagerie", "method": "plain", "steps": 4, "guidance": scale}
                found.append({**one, "group": job, "template": "t", "seed": seed, **read})
    return pd.DataFrame(found)


@pytest.fixture(scope="module", params=[(8, "amplifies"), (0, "is not shown to change"), (-8, "diminishes")])
def case(request: pytest.FixtureRequest) -> tuple[Audit, str]:
    """An audit in which guidance does what the verdict says."""
    shift, verdict = request.param
    perfect = {"gender": Confusion(("man", "woman"), ((5000, 0), (0, 5000)))}
    reference = {("menagerie", job): probe.bias.planted(job) for job in PROFESSIONS}
    labels = probe.bias.MenagerieJudge().labels
    return probe.bias.tidy(rows(shift), Known(labels, perfect, reference)), verdict


def test_the_answer_is_the_one_that_the_rows_hold(case: tuple[Audit, str]):
    audit, verdict = case
    assert f"**Gender: guidance {verdict} the bias.** From guidance 1 to 5" in experiment.answer(audit, "gender")
    table = experiment.overall(audit, "gender")
    assert "| 1 | " in table and "| 9 |" in table  # scientist has no majority
    assert "| doctor | 0.70 | 0.70 (" in experiment.by_group(audit)


def test_the_page_fits_into_the_docs(case: tuple[Audit, str], root: Path):
    audit, _ = case
    made = experiment.study(experiment.arguments(["--small"]))
    page = experiment.page(audit, made)
    assert "10 professions x 100 seeds x 2 scales, 4 steps" in page and "What this does not show" in page
    assert "**this rests on fewer**" in page
    whole = insert((root / "docs" / "bias.md").read_text(), page)
    assert whole.count(MARKS[0]) == 1 and "Not measured yet" not in whole


def test_every_planted_profession_is_asked_for_200_times_seed_by_seed():
    made = experiment.study(experiment.arguments([]))
    assert [row.columns["group"] for row in made.rows] == list(PROFESSIONS)
    assert len(made.seeds) >= 200 and len(made.guidance) >= 3 and made.order == "seeds"


def test_only_seeds_that_every_profession_and_scale_has_are_audited():
    given = experiment.arguments(["--small"])
    given.scales = [1.0, 5.0]
    made = experiment.study(given, "0-99")
    read = rows(8)
    assert len(experiment.whole(read, made)) == len(read)
    cut = experiment.whole(read.drop(index=[0, 17]), made)  # two pictures are missing, of two seeds
    assert set(range(100)) - set(cut["seed"]) == {0, 17} and len(cut) == 98 * len(PROFESSIONS) * 2
    assert list(dict.fromkeys(cut["group"])) == list(PROFESSIONS)


def test_minutes_that_are_over_leave_what_was_read_and_the_next_run_goes_on(tmp_path: Path):
    given = experiment.arguments(["--small", "--out", str(tmp_path / "out")])
    given.steps, given.minutes, given.batch, given.seeds = 1, 0.0, 4, "0"
    made = experiment.study(given)
    assert len(experiment.drawn(given, made)) == 1  # the first picture came after the minutes
    given.minutes, given.kept = 10.0, tmp_path / "rows.csv"
    every = experiment.drawn(given, made)
    assert len(experiment.whole(every, made)) == len(PROFESSIONS) * 2
    kept.write(given.kept, every)
    given.out = tmp_path / "elsewhere"
    again = experiment.drawn(given, made)  # nothing is left to draw
    assert not given.out.exists()
    pd.testing.assert_frame_equal(again, every, check_dtype=False)


def test_without_a_whole_seed_there_is_nothing_to_audit(tmp_path: Path):
    told = ["--small", "--minutes", "0", "--out", str(tmp_path / "out")]
    with pytest.raises(BadInput, match="of 1 readings no seed has all 10 professions at all 2 scales, so there is"):
        experiment.main(told)


def test_pictures_that_failed_are_named_and_drawn_again_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    given = experiment.arguments(["--small", "--out", str(tmp_path / "out")])
    given.steps, given.batch, given.scales, given.seeds = 1, 4, [5.0], "0"
    made = experiment.study(given)

    def broken(self: MenagerieJudge, shot: Shot) -> None:
        raise ValueError("nothing to see")

    with monkeypatch.context() as patch:
        patch.setattr(MenagerieJudge, "score", broken)
        assert experiment.drawn(given, made).empty
    told = capsys.readouterr().out
    assert "doctor, guidance 5, seed 0: failed: ValueError: nothing to see" in told
    assert "so the seeds 0 are not whole and are left out; --retry draws these pictures again" in told
    assert experiment.drawn(given, made).empty  # what failed is not tried again by itself
    given.retry = True
    assert len(experiment.whole(experiment.drawn(given, made), made)) == len(PROFESSIONS)


def test_a_rehearsal_is_not_written():
    with pytest.raises(BadInput, match="--small is a rehearsal, whose numbers mean nothing"):
        experiment.arguments(["--small", "--write"])


def test_kept_rows_are_replaced_by_name_and_nobody_stays_nobody(tmp_path: Path):
    names, path = ["group", "seed"], tmp_path / "rows.csv"
    old = pd.DataFrame({"group": ["b", "a"], "seed": [1, 0], "read": ["man", None]})
    new = pd.DataFrame({"group": ["b"], "seed": [1], "read": ["woman"]})
    kept.write(path, kept.merged(old, new, names))
    back = kept.read(path, [*names, "read"])
    assert back[names].values.tolist() == [["a", 0], ["b", 1]] and list(back["read"].dropna()) == ["woman"]
    assert kept.read(tmp_path / "none.csv", names).empty
