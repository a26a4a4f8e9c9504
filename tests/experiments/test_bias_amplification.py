"""The experiment on bias: its question as data, and its page from numbers worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest

import probe
from experiments import bias_amplification as experiment
from probe.bias import Audit, Confusion
from probe.bias.tables import Known
from probe.generator.card import MARKS, insert
from probe.generator.world.vocabulary import MAN_SHARE, PROFESSIONS


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
    assert "10 professions x 2 seeds x 2 scales, 4 steps" in page and "What this does not show" in page
    whole = insert((root / "docs" / "bias.md").read_text(), page)
    assert whole.count(MARKS[0]) == 1 and "Not measured yet" not in whole


def test_every_planted_profession_is_asked_for_at_least_200_times():
    made = experiment.study(experiment.arguments([]))
    assert [row.columns["group"] for row in made.rows] == list(PROFESSIONS)
    assert len(made.seeds) >= 200 and len(made.guidance) >= 4
