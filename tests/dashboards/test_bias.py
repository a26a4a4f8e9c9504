"""The page Bias, run without a browser: what a study found, named and bounded; what to do where there is none."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import probe
from dashboards.shared import audits, traces
from probe.bias import LIMITS, Audit
from probe.bias.shares import needed
from probe.bias.tables import Known
from tests.bias.test_audits import ERROR, LABELS, REFERENCE, one, rows
from tests.dashboards.pages import alts, markdown, page, plain, texts


def made(**columns: Any) -> Audit:
    """Three groups at two guidance scales; the error of gender is known, that of tone is not. `columns` of its rows."""
    known = Known(LABELS, {"gender": ERROR}, REFERENCE)
    return replace(probe.bias.tidy(rows().assign(**columns), known), classifier="HandReader (1f2e)")


Keep = Callable[..., str]


@pytest.fixture
def keep() -> Keep:
    """Saves an audit in the dashboard's folder and returns its id."""

    def save(audit: Audit, name: str = "bias-of-the-day") -> str:
        audit.save(traces.root() / name)
        return name

    return save


def test_without_a_study_it_says_how_to_make_one():
    app = page("bias")
    assert not app.exception
    assert texts(app.info) == ["There is no bias study yet."]
    assert f"probe bias run --seeds 0-199 --guidance 1,5 --out {traces.root() / 'bias'}" in plain(app)


def test_a_study_names_its_classifier_its_error_and_its_limits(keep: Keep):
    keep(made())
    app = page("bias")
    assert not app.exception
    assert "Classifier: HandReader (1f2e). Read rightly: 92.5%, mean of the labels." in plain(app)
    assert str(ERROR) in plain(app)
    assert "perceived in pictures of nobody" in texts(app.warning)[0]
    assert all(limit in markdown(app) for limit in LIMITS)


def test_shares_stand_beside_those_in_the_data(keep: Keep):
    name = keep(made())
    app = page("bias")
    assert "Share perceived as man in each group with 95% intervals, beside that in the data" in alts(app)
    drawn = audits.best(made(), "gender", "man").set_index(["group", "guidance"])
    fixed = one(made().shares, group="doctor", guidance=5.0, label="man")
    assert drawn.loc[("doctor", 5.0), ["share", "low", "high"]].tolist() == [
        fixed[name] for name in ("corrected", "corrected_low", "corrected_high")
    ]
    as_read = audits.best(made(), "tone", "dark")
    assert as_read["low"].tolist() == made().shares.query("label == 'dark'")["low"].tolist()
    table = app.dataframe[0].value
    doctor = table[(table["group"] == "doctor") & (table["setting"] == "guidance 5") & (table["label"] == "man")]
    assert doctor["share"].tolist() == [0.9] and doctor["reference"].tolist() == [0.7]
    assert f"audit = probe.bias.open({str(audits.place(name))!r})" in plain(app)


def test_amplification_is_shown_with_its_change_over_guidance(keep: Keep):
    audit = made()
    keep(audit)
    app = page("bias")
    assert "Amplification of gender in each group and setting, with intervals; 0 is the share in the data" in alts(app)
    frame = audits.amplified(audit, "gender")
    assert list(dict.fromkeys(frame["group"])) == [audits.MEAN, "doctor", "artist"]
    last = audit.overall.iloc[-1]
    assert f"guidance 5 against guidance 1: {last['change']:+.3f} (" in plain(app)
    assert "Paired tests of gender" in alts(app)


def test_what_is_not_known_is_said_and_not_drawn(keep: Keep):
    keep(made())
    app = page("bias")
    app.selectbox[0].set_value("tone").run()
    assert not app.exception
    assert "Its error is not known." in plain(app)
    assert "The shares in the data are not known, or no label has the most of them." in texts(app.info)
    assert not any(column.startswith("corrected") for column in app.dataframe[0].value)


def test_few_pictures_are_warned_of_and_enough_are_not(keep: Keep):
    keep(made())
    app = page("bias")
    said = texts(app.warning)[1]
    assert said.startswith("Few pictures: 20 were read of doctor. Intervals are wide;")
    assert said.endswith(f"For intervals of ±0.1, take {needed(0.1)} seeds or more.")
    many = made()
    many.shares["read"] = needed(0.1)
    assert audits.few(many, "gender") is None


def test_of_several_studies_one_is_chosen_and_a_damaged_one_is_said_so(keep: Keep):
    keep(made(), "first-study")
    keep(made(), "second-study")
    (traces.root() / "first-study" / "summary.json").write_text("{}")
    app = page("bias")
    app.selectbox(key="study").set_value("first-study").run()
    assert not app.exception
    assert texts(app.error) == ["This study cannot be read."]
    assert "is not an audit" in plain(app)


def test_foreign_words_are_never_markdown(keep: Keep):
    audit = made()
    audit.shares["group"] = "![x](https://example.org/x.png)"
    keep(replace(audit, classifier="<img src=x onerror=alert(1)> **bold**"))
    app = page("bias")
    assert not app.exception
    assert "<img" not in markdown(app) and "![x]" not in markdown(app)


def test_what_went_on_inside_stands_beside_the_outcome(keep: Keep):
    numbers = np.random.default_rng(0).normal(size=len(rows()))
    keep(made(inside_noun=numbers, inside_pull=numbers + 2, clip=numbers))
    app = page("bias")
    assert not app.exception
    assert {"Internal measures", "What it costs"} <= {header.value for header in app.header}
    every, each = (frame.value for frame in app.dataframe if "measure" in frame.value)
    assert list(every["measure"]) == ["noun", "pull"] * 2 and set(each["group"]) == {"doctor", "artist", "scientist"}
    assert {"Inside the model, by gender", "Costs of each setting"} <= set(alts(app))


def test_what_was_not_recorded_takes_no_room(keep: Keep):
    keep(made())
    assert not {"Internal measures", "What it costs"} & {header.value for header in page("bias").header}
