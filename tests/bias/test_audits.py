"""Audits of tables made by hand: every number is counted again here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import probe
from probe.bias import Audit, Confusion
from probe.bias.audits import CELLS, COMPARISONS, OVERALL, SHARES
from probe.bias.paired import compare
from probe.bias.shares import corrected, wilson
from probe.bias.tables import Known
from probe.errors import BadInput, DamagedFile

LABELS = {"gender": ("man", "woman"), "tone": ("light", "medium", "dark")}
ERROR = Confusion(("man", "woman"), ((95, 5), (10, 90)), "by hand")
REFERENCE = {
    ("m", "doctor"): {"gender": {"man": 0.7, "woman": 0.3}},
    ("m", "artist"): {"gender": {"man": 0.4, "woman": 0.6}},
    ("m", "scientist"): {"gender": {"man": 0.5, "woman": 0.5}},
}
MEN = {("doctor", 1.0): 12, ("doctor", 5.0): 18, ("artist", 1.0): 8, ("artist", 5.0): 5, ("scientist", 1.0): 10}
MEN |= {("scientist", 5.0): 11}


def rows(seeds: int = 20) -> pd.DataFrame:
    """Of each group and guidance the first seeds are read as men; one picture failed, in one nobody was seen."""
    found = [
        {
            "status": "done",
            "model": "m",
            "method": "plain",
            "steps": 4,
            "guidance": guidance,
            "group": group,
            "template": "a photo of {group}",
            "seed": seed,
            "perceived_gender": "man" if seed < men else "woman",
            "perceived_tone": ("light", "medium", "dark")[(seed + men) % 3],
        }
        for (group, guidance), men in MEN.items()
        for seed in range(seeds)
    ]
    lost: dict[str, Any] = {"perceived_gender": None, "perceived_tone": None}
    return pd.DataFrame(
        [*found, {**found[0], "seed": 90, **lost}, {**found[0], "seed": 91, "status": "failed", **lost}]
    )


@pytest.fixture(scope="module")
def made() -> Audit:
    return probe.bias.tidy(rows(), Known(LABELS, {"gender": ERROR}, REFERENCE))


def one(table: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    """The only row with these values."""
    for name, value in wanted.items():
        table = table.loc[table[name] == value]
    assert len(table) == 1
    return table.to_dict("records")[0]


def test_shares_are_counted(made: Audit):
    row = one(made.shares, group="doctor", guidance=5.0, label="man")
    raw, fixed = wilson(18, 20), corrected([18, 2], ERROR)[0]
    assert (row["pictures"], row["read"], row["count"], row["share"]) == (20, 20, 18, 0.9)
    assert (row["low"], row["high"]) == (raw.low, raw.high)
    assert (row["corrected"], row["corrected_low"], row["corrected_high"]) == (fixed.value, fixed.low, fixed.high)
    assert row["reference"] == 0.7 and row["over"] == pytest.approx(fixed.value - 0.7)
    assert row["ratio"] == pytest.approx(fixed.value / 0.7)


def test_the_unread_are_counted_and_the_failed_are_not(made: Audit):
    row = one(made.shares, group="doctor", guidance=1.0, label="man")
    assert (row["pictures"], row["read"]) == (21, 20)
    assert one(made.cells, group="doctor", guidance=1.0, attribute="gender")["unread"] == 1


def test_without_error_or_data_nothing_is_made_up(made: Audit):
    row = one(made.shares, group="doctor", guidance=1.0, label="light")
    assert np.isnan([row["corrected"], row["reference"], row["over"], row["ratio"]]).all()
    cell = one(made.cells, group="doctor", guidance=1.0, attribute="tone")
    assert cell["basis"] == "as read" and cell["majority"] == "" and np.isnan(cell["amplification"])


def test_amplification_is_of_the_majority_in_the_data(made: Audit):
    doctor, artist = (one(made.cells, group=g, guidance=5.0, attribute="gender") for g in ("doctor", "artist"))
    assert (doctor["majority"], artist["majority"]) == ("man", "woman")
    assert doctor["amplification"] == pytest.approx(corrected([18, 2], ERROR)[0].value - 0.7)
    assert artist["amplification"] == pytest.approx(corrected([5, 15], ERROR)[1].value - 0.6)
    assert one(made.cells, group="scientist", guidance=5.0, attribute="gender")["majority"] == ""


def test_a_seed_that_one_setting_lacks_leaves_the_others_paired():
    """Equal readings at both settings but for one picture: a change is known far better than either share."""
    read = {"status": "done", "model": "m", "method": "plain", "steps": 4, "template": "t", "group": "doctor"}
    found = pd.DataFrame(
        [
            {**read, "guidance": scale, "seed": seed, "perceived_gender": "man" if seed % 2 else "woman"}
            for scale in (1.0, 5.0)
            for seed in range(100)
        ]
    )
    labels = {"gender": LABELS["gender"]}
    last = probe.bias.tidy(found.iloc[:-1], Known(labels, {}, REFERENCE)).overall.iloc[-1]
    assert last["high"] - last["low"] > 0.15
    assert last["change_high"] - last["change_low"] < 0.06


def test_a_change_is_over_the_groups_that_both_settings_have():
    """A group of which nothing was read at one of them says nothing of a change."""
    found = rows().assign(perceived_tone=None)
    silent = found["guidance"].eq(5.0) & found["group"].eq("artist")
    found.loc[silent, "perceived_gender"] = None
    known = Known({"gender": LABELS["gender"]}, {"gender": ERROR}, REFERENCE)
    whole, alone = (probe.bias.tidy(each, known).overall for each in (found, found[found["group"] != "artist"]))
    first, second = one(whole, guidance=1.0), one(whole, guidance=5.0)
    assert (first["groups"], second["groups"]) == (2, 1)
    assert second["change"] == pytest.approx(one(alone, guidance=5.0)["change"])
    assert second["change"] != pytest.approx(second["amplification"] - first["amplification"])


def test_overall_is_the_mean_of_groups_with_a_majority(made: Audit):
    gender = made.cells.loc[made.cells["attribute"] == "gender"]
    for guidance in (1.0, 5.0):
        row = one(made.overall, guidance=guidance)
        cells = gender.loc[gender["guidance"] == guidance, "amplification"].dropna()
        assert row["groups"] == len(cells) == 2
        assert row["amplification"] == pytest.approx(cells.mean(), abs=1e-9)
        assert row["low"] < row["amplification"] < row["high"]
    first, second = one(made.overall, guidance=1.0), one(made.overall, guidance=5.0)
    assert first["change"] == first["change_low"] == first["change_high"] == 0
    assert second["change"] == pytest.approx(second["amplification"] - first["amplification"])
    assert 0 < second["change_low"] < second["change"] < second["change_high"]


def test_settings_and_groups_are_compared_at_equal_seeds(made: Audit):
    row = one(made.comparisons, between="settings", group="doctor", attribute="gender")
    by_hand = compare([seed < 12 for seed in range(20)], [seed < 18 for seed in range(20)])
    assert (row["gained"], row["lost"], row["pairs"]) == (6, 0, 20)
    assert (row["difference"], row["low"], row["p"]) == (by_hand.difference.value, by_hand.difference.low, by_hand.p)
    assert row["p_holm"] >= row["p"] and (row["guidance"], row["second_guidance"]) == (1.0, 5.0)
    other = one(made.comparisons, between="groups", second_group="artist", attribute="gender", guidance=5.0)
    assert other["group"] == "doctor" and other["difference"] == pytest.approx((5 - 18) / 20)
    assert other["pairs"] == 20


def test_of_three_labels_each_and_the_mix_are_compared(made: Audit):
    found = made.comparisons.loc[(made.comparisons["attribute"] == "tone") & (made.comparisons["group"] == "artist")]
    assert list(found["label"]) == ["light", "medium", "dark", "(mix)"]


def test_nothing_read_is_refused():
    with pytest.raises(BadInput, match="no finished picture was read for gender"):
        probe.bias.tidy(rows().assign(status="failed"), Known(LABELS))
    with pytest.raises(BadInput, match="no finished picture"):
        probe.bias.tidy(rows().drop(columns=["perceived_gender", "perceived_tone"]), Known(LABELS))


def test_an_audit_is_read_back(made: Audit, tmp_path: Path):
    made.save(tmp_path)
    held = probe.bias.open(tmp_path)
    for name in ("shares", "cells", "overall", "comparisons"):
        pd.testing.assert_frame_equal(getattr(held, name), getattr(made, name), check_dtype=False)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), getattr(made, name))
    assert held.errors == made.errors and str(held) == str(made)
    assert [list(t) for t in (held.shares, held.cells, held.overall, held.comparisons)] == [
        SHARES,
        CELLS,
        OVERALL,
        COMPARISONS,
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert any("perceived" in line for line in summary["limits"])


def test_what_is_not_known_is_not_known_after_reading_either(tmp_path: Path):
    bare = probe.bias.tidy(rows(), Known(LABELS))
    bare.save(tmp_path)
    held = probe.bias.open(tmp_path)
    assert str(held) == str(bare) and np.isnan(held.shares["corrected"].astype(float)).all()
    (ax,) = held.figure("gender").axes
    assert list(ax.get_lines()[0].get_xdata()) == [0.6, 0.4, 0.5]  # as read
    assert held.report(tmp_path / "report.html").is_file()


def test_what_is_no_audit_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="holds no summary.json; make one"):
        probe.bias.open(tmp_path)
    (tmp_path / "summary.json").write_text('{"shares": 3}')
    with pytest.raises(DamagedFile, match="is not an audit"):
        probe.bias.open(tmp_path)


def test_the_text_says_who_read_and_what_came_out(made: Audit):
    said = str(made)
    assert "Perceived attributes, read by" in said and "read rightly: 92.5%" in said
    assert "its error is not known, so nothing is corrected" in said
    assert "mean amplification over 2 groups, guidance 5" in said


def test_the_figure_marks_every_share_and_the_data(made: Audit):
    figure = made.figure("gender")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["doctor", "artist", "scientist"]
    _, second = ax.get_lines()
    shown = made.shares.loc[(made.shares["label"] == "man") & (made.shares["guidance"] == 5.0), "corrected"]
    assert list(second.get_xdata()) == pytest.approx(list(shown))
    assert len(made.figure("tone").axes) == 3
    with pytest.raises(BadInput, match="nothing was read of 'age'; there is gender, tone"):
        made.figure("age")
