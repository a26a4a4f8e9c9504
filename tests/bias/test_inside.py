"""Inside and outcome, arms and their costs: against scipy, the trace, and the same text drawn plainly."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

import probe
from probe.bias import Confusion, MenagerieJudge
from probe.bias.costs import cost_rows, mean_of
from probe.bias.inside import ALL, welch
from probe.bias.tables import Known
from probe.errors import BadInput
from probe.explain.relevancy import relevancy_maps
from probe.study import Study
from probe.study.results import PICTURE, TRACE, place
from tests import pipelines

LABELS = {"gender": ("man", "woman")}


def rows() -> pd.DataFrame:
    """In each group men get 1 more of `noun`; the groups differ by 10, which must not look like a link."""
    found = [
        {
            "status": "done",
            "model": "m",
            "method": "plain",
            "steps": 4,
            "guidance": 5.0,
            "template": "t",
            "group": group,
            "seed": seed,
            "perceived_gender": "man" if man else "woman",
            "inside_noun": base + man + 0.01 * (seed % 3),
            "inside_pull": None,
        }
        for group, base, men in (("doctor", 0.0, 9), ("chef", 10.0, 3))
        for seed in range(12)
        for man in [seed < men]
    ]
    return pd.DataFrame(found)


def test_inside_is_set_beside_the_perceived_label():
    made = probe.bias.tidy(rows(), Known(LABELS))
    assert set(made.inside["measure"]) == {"noun"}  # nothing was recorded of the pull
    by_group = made.inside.set_index("group")
    assert list(by_group["with"]) == [9, 3, 12] and list(by_group["without"]) == [3, 9, 12]
    assert re.search(r"^m +man +noun +\+0\.\d{3} \(\+", str(made), re.M) and "no cause is shown" in str(made)
    assert by_group.loc["chef", "difference"] == pytest.approx(1, abs=0.02)
    pooled = by_group.loc[ALL]
    assert 0.5 < pooled["difference"] < 1 and pooled["p_holm"] >= pooled["p"]
    crude = np.mean([row["inside_noun"] for row in rows().to_dict("records") if row["perceived_gender"] == "man"])
    assert crude < 5  # over all groups at once men would seem to get less


def test_welch_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 2, 15).tolist(), rng.normal(0, 1, 9).tolist()
    found, p = welch(a, b, confidence=0.9)
    expected: Any = stats.ttest_ind(a, b, equal_var=False)
    wanted = expected.confidence_interval(0.9)
    assert p == pytest.approx(expected.pvalue) and (found.low, found.high) == pytest.approx(tuple(wanted))
    assert np.isnan(welch([1.0], b)[1]) and np.isnan(welch([1.0, 1.0], [1.0, 1.0])[1])


def test_costs_are_paired():
    base = {"status": "done", "model": "m", "steps": 4, "guidance": 5.0, "group": "doctor", "template": "t"}
    table = pd.DataFrame(
        [
            {**base, "method": method, "seed": seed, "clip_full": value, "judge_all_present": seed > 0, "arm_x": "text"}
            for method, values in (("plain", (0.5, 0.6, 0.7)), ("said", (0.4, 0.4, 0.6)))
            for seed, value in enumerate(values)
        ]
    )
    found = {(row["method"], row["score"]): row for row in cost_rows(table)}
    assert {score for _, score in found} == {"clip_full", "judge_all_present"}
    gap = np.array([-0.1, -0.2, -0.1])
    low, high = stats.t.interval(0.95, 2, loc=gap.mean(), scale=stats.sem(gap))
    said = found["said", "clip_full"]
    assert (said["difference"], said["low"], said["high"]) == pytest.approx((gap.mean(), low, high))
    assert found["said", "judge_all_present"]["difference"] == 0 and found["plain", "clip_full"]["value"] == 0.6
    assert mean_of(np.array([1.0])).high == np.inf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arms")


@pytest.fixture(scope="module")
def made(folder: Path) -> Study:
    """Two arms on a tiny model, with what went on inside."""
    study = small(folder / "arms", arms={"said": "a photo of a female {group}"}, explainers="attention")
    assert study.run().ok
    return study


def test_a_group_of_two_words_has_what_both_get(folder: Path):
    asked = {"explainers": ["attention", "relevancy"], "keep": ("traces",), "group": "red cat"}
    made = small(folder / "two", seeds="0", **asked)
    assert made.run().ok
    row = made.table().iloc[0]
    trace = probe.open(place(made.path, row["key"]) / TRACE)
    both = [float(probe.attention(trace, word).values.mean()) for word in ("red", "cat")]
    assert row["inside_noun"] == pytest.approx(sum(both), rel=1e-4) and min(both) > 0
    assert row["inside_relevancy_noun"] + row["inside_relevancy_photo"] == pytest.approx(1)


def small(path: Path, template: str = "a photo of {group}", *, group: str = "doctor", **more: Any) -> Study:
    tiny = {"models": str(pipelines.folder("sd1")), "seeds": "0-1", "steps": 2, "size": (64, 64), "guidance": 3}
    judge = MenagerieJudge(attributes=("gender",))
    return probe.bias.study([group], template, classifier=judge, folder=str(path), **tiny | more)


def test_an_arm_draws_what_its_text_draws(made: Study, folder: Path):
    plain = small(folder / "plain", "a photo of a female {group}")
    assert plain.run().ok
    arm, same = made.table(), plain.table()
    for seed in (0, 1):
        one = arm.loc[(arm["method"] == "said") & (arm["seed"] == seed), "key"].iloc[0]
        other = same.loc[same["seed"] == seed, "key"].iloc[0]
        pictures = [np.asarray(Image.open(place(s.path, k) / PICTURE), int) for s, k in ((made, one), (plain, other))]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
    first = arm.loc[arm["method"] == "plain", "key"].iloc[0]
    drawn = np.asarray(Image.open(place(made.path, first) / PICTURE), int)
    assert np.abs(drawn - pictures[1]).max() > 1


def test_what_is_read_inside_is_what_the_trace_holds(folder: Path):
    kept = small(folder / "traces", keep=("pictures", "traces"))
    assert kept.run().ok
    row = kept.table().iloc[0]
    trace = probe.open(place(kept.path, row["key"]) / TRACE)
    assert row["inside_noun"] == pytest.approx(float(probe.attention(trace, "doctor").values.mean()), rel=1e-4)
    norms = trace.node("guidance")["difference_norm"].values
    assert row["inside_pull"] == pytest.approx(norms.mean()) and row["inside_pull_early"] == pytest.approx(
        norms.ravel()[0]
    )


def test_recording_changes_no_picture(made: Study, folder: Path):
    bare = small(folder / "bare")
    assert bare.run().ok
    recorded = made.table()
    for row in bare.table().to_dict("records"):
        assert not any(name.startswith("inside_") for name in row)
        same = recorded.loc[(recorded["method"] == "plain") & (recorded["seed"] == row["seed"]), "key"].iloc[0]
        pictures = [np.asarray(Image.open(place(s.path, k) / PICTURE)) for s, k in ((bare, row["key"]), (made, same))]
        assert (pictures[0] == pictures[1]).all()


def test_steered_by_one_is_the_text_and_by_nothing_the_prompt(folder: Path, made: Study):
    towards = "a photo of a female {group}"
    steered = small(folder / "steered", arms={"whole": (towards, 1.0), "half": (towards, 0.5), "none": (towards, 0.0)})
    assert steered.run().ok
    whole, half, none = (picture(steered, name) for name in ("whole", "half", "none"))
    said, plain = picture(made, "said"), picture(made, "plain")
    assert np.abs(whole - said).max() <= 1 and np.abs(none - plain).max() == 0
    assert np.abs(half - said).max() > 1 and np.abs(half - plain).max() > 1


def picture(study: Study, method: str) -> np.ndarray:
    """[y, x, rgb]: what a method drew from seed 0."""
    table = study.table()
    key = table.loc[(table["method"] == method) & (table["seed"] == 0), "key"].iloc[0]
    return np.asarray(Image.open(place(study.path, key) / PICTURE), int)


def test_arms_are_compared_with_the_prompt(made: Study):
    error = {"gender": Confusion(("man", "woman"), ((50, 0), (0, 50)))}
    if made.table()["perceived_gender"].notna().any():
        audit = probe.bias.audit(made, errors=error)
        assert set(audit.shares["method"]) <= {"plain", "said"}
    assert set(made.table()["method"]) == {"plain", "said"}
    assert made.table().loc[0, "arm_said"] == "a photo of a female doctor"


def test_relevancy_is_read_where_it_was_asked_for(made: Study, folder: Path):
    """And is what the trace holds; where an arm has the model read other words, none of them is the prompt's."""
    arms: dict[str, Any] = {"arms": {"said": "a photo of a female {group}", "near": ("a photo of a male {group}", 0.5)}}
    asked = small(folder / "relevancy", explainers=["attention", "relevancy"], keep=("pictures", "traces"), **arms)
    assert asked.run().ok
    table = asked.table().set_index(["method", "seed"])
    row = table.loc[("plain", 0)]
    amounts = relevancy_maps(probe.open(place(asked.path, row["key"]) / TRACE)).sum(("y", "x"))
    share = float(amounts.sel(step=0, word="doctor")) / float(amounts.sel(step=0).sum())
    assert float(row["inside_relevancy_noun"]) == pytest.approx(share, rel=1e-4)
    assert 0 < share < 1
    assert row["inside_relevancy_noun"] + row["inside_relevancy_photo"] == pytest.approx(1)
    words = [name for name in table if str(name).startswith("inside_") and "pull" not in str(name)]
    assert len(words) == 4
    assert np.asarray(table.loc[["said", "near"], words].isna()).all()
    assert not np.asarray(table["inside_pull"].isna()).any()
    assert not any("relevancy" in str(name) for name in made.table())
    assert (picture(asked, "plain") == picture(made, "plain")).all()


def test_relevancy_needs_guidance(folder: Path):
    with pytest.raises(BadInput, match="at guidance 1 there is none; take scales above 1, or leave relevancy out"):
        probe.bias.study(["doctor"], guidance=[1, 5], explainers="relevancy")
