"""Verdicts: from the inside by rules and by a calibration, from the outside by judges, and what is asked in vain."""

import math
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from pydantic import ValidationError

import probe
from probe.errors import BadInput, DamagedFile, NoSuchWord, NotRecorded
from probe.generator import weights
from probe.generator.judge import Instance, Verdict
from probe.nurse import diagnose as diagnosing
from probe.nurse import diagnosis_calibration
from probe.nurse.diagnosis import Diagnosis
from probe.nurse.diagnosis_calibration import Calibration, read
from probe.nurse.diagnosis_signals import log_odds
from probe.trace import Trace
from tests import pipelines
from tests.factories import make_trace
from tests.nurse.casts import spot, trace_of

PROMPT = "a cat and a dog"
COLOURED = "a red car and a blue bowl"


@pytest.fixture(autouse=True)
def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Calibration], None]:
    """No calibration is shipped, until a test ships one: of attention, or of what else is among its signals."""
    monkeypatch.setattr(diagnosing, "shipped", lambda kind="attention": None)

    def ship(given: Calibration) -> None:
        own = next((kind for kind in ("preview", "relevancy") if kind in given.signals), "attention")
        monkeypatch.setattr(diagnosing, "shipped", lambda kind="attention": given if kind == own else None)

    return ship


def pair(cat: float = 0.5, dog: float = 0.5, *, apart: int = 8, steps: int = 3) -> Trace:
    return trace_of(PROMPT, {"cat": [spot(4, 4, cat)] * steps, "dog": [spot(4, 4 + apart, dog)] * steps})


def coloured(**places: int) -> Trace:
    """Of each word, the column that it sits in."""
    return trace_of(COLOURED, {word: [spot(4, column)] * 2 for word, column in places.items()})


def verdicts(diagnosis: Diagnosis) -> list[tuple[str, str, str | None]]:
    return [(f.subject, f.verdict, f.other) for f in diagnosis.findings]


# From the inside.


def test_two_that_stand_apart_are_present():
    found = probe.diagnose(pair())
    assert verdicts(found) == [("cat", "present", None), ("dog", "present", None)]
    assert (found.ok, found.neglected) == (True, ())


def test_who_gets_little_attention_is_neglected():
    found = probe.diagnose(pair(dog=0.05))
    assert verdicts(found)[1] == ("dog", "neglected", None)
    assert (found.ok, found.neglected, found["dog"].lost) == (False, ("dog",), 0)
    assert "dog: neglected, never took hold (strongest cell 0.017; 10% of the strongest)" in str(found)


def test_it_says_at_which_step_a_subject_was_lost():
    heights = [0.05, 0.05, 0.5, 0.5]
    trace = trace_of(PROMPT, {"cat": [spot(4, 4, h) for h in heights], "dog": [spot(4, 12, 0.05)] * 4})
    assert probe.diagnose(trace)["dog"].lost == 2
    assert "dog: neglected, lost from step 2 on" in str(probe.diagnose(trace))
    assert probe.diagnose(trace, until=2).neglected == ()


def test_two_at_the_same_place_are_fused():
    found = probe.diagnose(pair(apart=0))
    assert verdicts(found) == [("cat", "fused", "dog"), ("dog", "fused", "cat")]
    assert "their maps overlap by 100%" in str(found["cat"])


def test_an_attribute_on_the_other_noun_has_leaked():
    found = probe.diagnose(coloured(red=12, car=4, blue=12, bowl=12))
    assert verdicts(found) == [("car", "present", None), ("bowl", "wrong attribute", "car")]
    assert "bowl: wrong attribute, leaked from car" in str(found)
    assert "car's attribute is closer to it than to car by 0." in str(found["bowl"])
    assert probe.diagnose(coloured(red=4, car=4, blue=12, bowl=12)).ok


def test_what_is_said_of_two_is_of_these_two():
    """A judge names whom the numbers beside its verdict are of, be another subject closer or not."""
    where = {"red": (4, 4), "cat": (4, 4), "blue": (4, 11), "dog": (4, 11), "green": (12, 4), "bird": (12, 4)}
    trace = trace_of("a red cat, a blue dog and a green bird", {word: [spot(*at)] for word, at in where.items()})
    names = ["cat", "dog", "bird"]

    class Judged:
        def __init__(self, leaked: str = "", fused: str = ""):
            self.leaked, self.joined = leaked, fused

        def read(self, picture: Image.Image) -> "Judged":
            return self

        def knows(self, word: str) -> bool:
            return True

        def mask(self, word: str) -> np.ndarray:
            place = names.index(word) if word in names else 0 if word == self.leaked else 3
            return np.arange(4) == np.full((1, 4), place)

        def fused(self, word: str, other: str) -> bool:
            return other == self.joined and word == "cat"

    pictured = replace(trace, pictures=(Image.new("RGB", (4, 4)),))
    signals = probe.diagnose(trace).curves
    for other in ("dog", "bird"):
        shared = signals["overlap"].sel(subject="cat", other=other).item()
        assert f"their maps overlap by {shared:.0%}" in str(probe.diagnose(pictured, judge=Judged(fused=other))["cat"])
    leaked = probe.diagnose(pictured, judge=Judged(leaked="green"))["cat"]
    assert leaked.other == "bird" and leaked.shown < 0
    assert "attention does not show it" in str(leaked) and "closer" not in str(leaked)


def test_the_users_words_win():
    found = probe.diagnose(coloured(red=12, car=4, blue=4, bowl=12), {"car": "blue", "bowl": None})
    assert found.ok
    assert probe.diagnose(coloured(red=4, car=4, blue=12, bowl=12), ["bowl"]).table()["subject"].tolist() == ["bowl"]


def test_one_subject_alone_cannot_be_judged_by_attention():
    found = probe.diagnose(pair(dog=0.05), ["dog"])
    alone = "No rule applies, as one subject has nothing to be compared with: it counts as present."
    assert found.basis == f"{alone} 3 of 3 steps looked at." and found.notes == ()
    assert str(found["dog"]) == "dog: present (strongest cell 0.017)"
    assert "nothing to be compared with" not in str(probe.diagnose(pair()))
    judged = probe.diagnose(pair(dog=0.05), ["dog"], judge=Saw())
    assert judged.basis.startswith(f"The judge's word counts where it can tell; else: {alone}")


def test_uncalibrated_rules_are_said_to_be_so():
    found = probe.diagnose(pair(), until=2)
    assert found.basis.startswith("By uncalibrated rules: neglected below 50% of the strongest")
    assert found.basis.endswith("2 of 3 steps looked at.")
    assert found.notes[0].startswith("the inside signals are not calibrated")


# By a calibration.

FITTED = Calibration(
    signals=("relative", "kept"), mean=(0.5, 1.0), scale=(0.25, 1.0), coefficients=(-2.0, 1.0), intercept=0.5,
    threshold=0.5, until=2, steps=3, auc=0.93, pictures=500, model="menagerie", weights="0" * 40,
)  # fmt: skip


def test_a_calibration_gives_the_probability(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED)
    found = probe.diagnose(pair(dog=0.05))
    relative = found["dog"].signals["relative"]
    expected = 1 / (1 + math.exp(-(0.5 - 2.0 * (relative - 0.5) / 0.25 + 0.0)))
    assert found["dog"].probability == pytest.approx(expected)
    assert (found["cat"].verdict, found["dog"].verdict) == ("present", "neglected")
    assert "By a calibration on 500 pictures (AUC 0.93)" in found.basis
    assert f"risk of neglect {expected:.0%}" in str(found)


def test_from_its_threshold_on_a_calibration_says_neglected(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED)
    risk = probe.diagnose(pair(dog=0.3))["dog"].probability
    assert risk is not None
    for bar, verdict in ((risk * 0.99, "neglected"), (risk * 1.01, "present")):
        uncalibrated(FITTED.model_copy(update={"threshold": bar}))
        found = probe.diagnose(pair(dog=0.3))
        assert found["dog"].verdict == verdict and f"neglected from a risk of {bar:.0%} on" in found.basis


def test_of_other_weights_the_rules_decide(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED)
    assert probe.diagnose(pair(), until=2).notes == ()
    uncalibrated(FITTED.model_copy(update={"weights": "f" * 32}))
    found = probe.diagnose(pair(dog=0.05), until=2)
    assert found["dog"].verdict == "neglected" and found["dog"].probability is None
    assert found.basis.startswith("By uncalibrated rules")
    assert found.notes == ("the calibration is of other weights (menagerie ffffffffffff), so the rules decide",)


def test_the_calibration_that_is_shipped_finds_whom_nobody_looks_at(uncalibrated: Callable[[Calibration], None]):
    held = diagnosis_calibration.shipped()
    assert held is not None
    uncalibrated(held.model_copy(update={"weights": FITTED.weights}))
    found = probe.diagnose(pair(dog=0.01, steps=10))
    assert verdicts(found) == [("cat", "present", None), ("dog", "neglected", None)]
    assert 0.1 < held.threshold < 0.5


def explained(trace: Trace, steps: Sequence[int], **shares: float) -> Trace:
    """The trace with words' relevancy at these steps."""
    values = np.array([*shares.values()])[None, None, :, None, None] * np.ones((len(steps), 1, 1, 4, 4))
    dims, coords = ("step", "image", "word", "y", "x"), {"step": list(steps), "word": [*shares]}
    nodes = {path: node.to_dataset(inherit=False) for path, node in trace.tree.subtree_with_keys}
    nodes["relevancy"] = xr.Dataset({"relevancy": (dims, values)}, coords=coords)
    return replace(trace, tree=xr.DataTree.from_dict(nodes))


def test_relevancy_at_the_telling_step_decides_before_attention_does(uncalibrated: Callable[[Calibration], None]):
    told = {"signals": ("relevancy",), "mean": (0.5,), "scale": (0.1,), "coefficients": (-2.0,), "intercept": 0.0}
    uncalibrated(FITTED.model_copy(update=told))
    assert diagnosing.telling_step(3) == 1 and diagnosing.telling_step(30) == 19
    found = probe.diagnose(explained(pair(), [1], cat=0.8, dog=0.2))
    assert verdicts(found) == [("cat", "present", None), ("dog", "neglected", None)]
    assert found["dog"].probability == pytest.approx(1 / (1 + math.exp(-6)))
    assert ", with the relevancy of the words at the last of its steps: neglected from" in found.basis
    later = probe.diagnose(explained(pair(), [1, 2], cat=0.8, dog=0.2))
    assert later["dog"].probability == found["dog"].probability
    for steps in ([0, 1], [0], [2]):  # a mean over other steps is not what was calibrated
        assert probe.diagnose(explained(pair(), steps, cat=0.8, dog=0.2))["dog"].probability is None
    uncalibrated(FITTED)
    assert diagnosing.telling_step(3) is None


def test_a_run_of_another_length_is_read_over_the_same_share_of_its_steps(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED)
    longer = trace_of(PROMPT, {"cat": [spot(4, 4)] * 6, "dog": [*[spot(4, 12)] * 4, *[spot(4, 12, 0.0)] * 2]})
    assert probe.diagnose(longer)["dog"].probability == probe.diagnose(pair())["dog"].probability


def test_a_calibration_of_other_steps_is_said_to_be_so(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED)
    assert "the first 2 of 3 steps, this is of the first 1 of 3 steps" in probe.diagnose(pair(), until=1).notes[0]


def test_a_signal_that_is_missing_gives_no_probability(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED.model_copy(update={"signals": ("relative", "leave_one_out")}))
    found = probe.diagnose(pair(dog=0.05))
    assert found["dog"].probability is None
    assert found["dog"].verdict == "neglected"
    assert found.basis.startswith("By uncalibrated rules")
    assert found.notes == ("the calibration needs signals of these subjects that are not there, so the rules decide",)


def test_of_one_subject_alone_a_calibration_that_needs_the_others_says_nothing(
    uncalibrated: Callable[[Calibration], None],
):
    uncalibrated(FITTED.model_copy(update={"signals": ("relative", "overlap")}))
    found = probe.diagnose(pair(dog=0.05), ["dog"])
    assert found["dog"].probability is None
    assert "By a calibration" not in found.basis
    assert found.basis.startswith("No rule applies, as one subject has nothing to be compared with")
    assert found.notes == ()


def test_the_probability_rests_on_the_calibrated_steps_alone(uncalibrated: Callable[[Calibration], None]):
    uncalibrated(FITTED)
    late = trace_of(PROMPT, {"cat": [spot(4, 4)] * 3, "dog": [*[spot(4, 12)] * 2, spot(4, 12, 0.0)]})
    assert probe.diagnose(late)["dog"].probability == probe.diagnose(pair())["dog"].probability


def test_what_is_shipped_can_be_read(tmp_path: Path):
    (tmp_path / "c.json").write_text(FITTED.model_dump_json())
    assert read(tmp_path / "c.json") == FITTED
    (tmp_path / "c.json").write_text(FITTED.model_dump_json().replace('"scale":[0.25,1.0]', '"scale":[0.25]'))
    with pytest.raises(DamagedFile, match="c.json is not a calibration"):
        read(tmp_path / "c.json")
    with pytest.raises(ValidationError, match=r"coefficients are \[2, 2, 2, 2\] numbers, the scales \(0.25, 0.0\)"):
        Calibration(**FITTED.model_dump() | {"scale": (0.25, 0.0)})
    (tmp_path / "c.json").write_text('{"auc": 1}')
    with pytest.raises(DamagedFile, match="c.json is not a calibration; repeat experiments/calibrate"):
        read(tmp_path / "c.json")


@pytest.mark.parametrize(("kind", "least"), [("attention", 0.8), ("relevancy", 0.88), ("preview", 0.9)])
def test_three_calibrations_are_shipped(kind: diagnosis_calibration.Kind, least: float):
    held = diagnosis_calibration.shipped(kind)
    assert held is not None and held.pictures >= 500 and (kind in held.signals) == (kind != "attention")
    assert (held.model, held.weights, held.until, held.steps) == ("menagerie", weights.revision(), 10, 50)
    assert held.auc > least  # the goal of 0.9 is reached with the look ahead alone


# From the outside.


class Saw:
    """A judge that has seen these things in every picture, and expects some with a probability."""

    def __init__(self, *things: Instance, **chances: float) -> None:
        self.verdict = Verdict(things, "plain", chances)

    def read(self, picture: Image.Image) -> Verdict:
        return self.verdict


class Eyes:
    """A judge that tells what it sees, and nothing of what it expects."""

    def read(self, picture: Image.Image) -> object:
        return object()


def thing(kind: str, left: int, right: int, colour: str | None = None) -> Instance:
    mask = np.zeros((128, 128), bool)
    mask[20:100, left:right] = True
    return Instance(kind, mask, colour=colour)


def test_the_judges_word_counts():
    found = probe.diagnose(pair(dog=0.05), judge=Saw(thing("dog", 0, 50)))
    assert verdicts(found) == [("cat", "neglected", None), ("dog", "present", None)]
    assert "dog: present" in str(found) and "the judge sees it" in str(found)
    assert found["dog"].lost == 0  # what attention says stays beside it
    assert found.basis.startswith("The judge's word counts where it can tell; else: ")


def test_a_judge_sees_colours_that_went_to_the_other():
    seen = Saw(thing("car", 0, 40, "red"), thing("bowl", 60, 120, "red"))
    found = probe.diagnose(coloured(red=4, car=4, blue=12, bowl=12), judge=seen)
    assert verdicts(found) == [("car", "present", None), ("bowl", "wrong attribute", "car")]
    green = Saw(thing("car", 0, 40, "red"), thing("bowl", 60, 120, "green"))
    found = probe.diagnose(coloured(red=4, car=4, blue=12, bowl=12), judge=green)
    assert verdicts(found)[1] == ("bowl", "wrong attribute", None)
    assert "bowl: wrong attribute (" in str(found)


def test_a_judge_sees_two_that_are_one():
    seen = Saw(thing("cat", 0, 60), Instance("dog", frame()))
    assert verdicts(probe.diagnose(pair(), judge=seen)) == [("cat", "fused", "dog"), ("dog", "fused", "cat")]


def frame() -> np.ndarray:
    """All around the cat."""
    mask = np.ones((128, 128), bool)
    mask[20:100, :60] = False
    return mask


def test_of_words_that_a_judge_does_not_know_attention_decides():
    trace = trace_of("a cat and a spaceship", {"cat": [spot(4, 4)], "spaceship": [spot(4, 12, 0.05)]})
    found = probe.diagnose(trace, judge=Saw(thing("cat", 0, 40)))
    assert found["spaceship"].sight.present is None
    assert found["spaceship"].verdict == "neglected"


def test_a_function_can_be_a_judge():
    found = probe.diagnose(pair(), judge=lambda picture, words: {"cat": 0.2, "owl": 0.9})
    assert (found["cat"].verdict, found["dog"].verdict) == ("neglected", "present")
    assert (found["cat"].sight.present, found["dog"].sight.present) == (False, None)


def test_of_a_second_cat_no_judge_says_anything():
    """Neither can tell it from the first."""
    trace = trace_of("a cat and a cat", {"cat": [spot(4, 4)], "cat#2": [spot(4, 12)]})
    asked = list[str]()
    told = probe.diagnose(trace, judge=lambda picture, words: asked.extend(words) or dict.fromkeys(words, 0.9))
    read = probe.diagnose(trace, judge=Saw(thing("cat", 0, 40)))
    assert [found["cat"].sight.present for found in (told, read)] == [True, True]
    assert [found["cat#2"].sight.present for found in (told, read)] == [None, None] and asked == ["cat"]


# From the picture that a step predicts.


def predicted(trace: Trace, *shades: int, made: str = "decoded") -> Trace:
    """The trace with an even grey picture as the one that each step predicts."""
    pictures = np.stack([np.full((1, 8, 8, 3), shade, np.uint8) for shade in shades])
    small = xr.DataArray(pictures, dims=("step", "image", "y", "x", "rgb"), attrs={"made": made})
    nodes = {path: node.to_dataset(inherit=False) for path, node in trace.tree.subtree_with_keys}
    nodes["thumbnails"] = xr.Dataset({"thumbnails": small}, coords={"step": np.arange(len(shades))})
    return replace(trace, tree=xr.DataTree.from_dict(nodes))


def by_shade(picture: Image.Image, words: Sequence[str]) -> dict[str, float]:
    """A judge that expects a dog as surely as the picture is white, and a cat always."""
    return {"cat": 0.9, "dog": np.asarray(picture).mean() / 255}


AHEAD = FITTED.model_copy(
    update={"signals": ("preview",), "mean": (0.0,), "scale": (1.0,), "coefficients": (-1.0,), "intercept": 0.0}
)


def test_a_judge_that_looks_ahead_reads_the_picture_that_the_last_step_predicts(uncalibrated):
    uncalibrated(AHEAD)
    trace = predicted(pair(), 0, 51, 255)
    found = probe.diagnose(trace, judge=by_shade, until=2)
    assert found["dog"].signals["preview"] == pytest.approx(math.log(0.25))  # 51 of 255, not the finished white
    assert found["dog"].probability == pytest.approx(0.8) and found["cat"].probability == pytest.approx(0.1)
    assert verdicts(found) == [("cat", "present", None), ("dog", "neglected", None)]
    assert found["dog"].sight.present is None  # the finished picture was not looked at
    assert found.basis == (
        "By a calibration on 500 pictures (AUC 0.93), with what a judge (there Menagerie's) expects of the predicted "
        "picture: neglected from a risk of 50% on. 2 of 3 steps looked at."
    )
    assert found.notes == ()
    assert "the judge expects it with 20%; risk of neglect 80%" in str(found["dog"])
    assert probe.diagnose(trace, judge=by_shade, until=3)["dog"].sight.present is True  # no step is left to look ahead


def test_a_look_beyond_the_calibrated_steps_is_said_to_be_one(uncalibrated):
    uncalibrated(AHEAD)
    longer = trace_of(PROMPT, {"cat": [spot(4, 4)] * 4, "dog": [spot(4, 12)] * 4})
    found = probe.diagnose(predicted(longer, 0, 51, 204, 255), judge=by_shade, until=3)
    assert found["dog"].signals["preview"] == pytest.approx(math.log(4))
    assert found["dog"].probability == pytest.approx(0.2)
    assert found.notes == ("the calibration is of the first 2 of 3 steps, this is of the first 3 of 4 steps",)


def test_of_a_subject_that_the_judge_cannot_tell_attention_decides(uncalibrated):
    uncalibrated(AHEAD)
    trace = predicted(pair(dog=0.05), 0, 51, 255)
    for judge in (lambda picture, words: {"cat": 0.9}, Saw(thing("cat", 0, 40), cat=0.9), Eyes()):
        found = probe.diagnose(trace, judge=judge, until=2)
        assert found["dog"].probability is None and math.isnan(found["dog"].signals["preview"])
        assert "expects" not in str(found["dog"]) and found["dog"].verdict == "neglected"  # by the rule
    one = probe.diagnose(trace, judge=lambda picture, words: {"cat": 0.9}, until=2)
    assert "from a risk of 50% on. Of dog: By uncalibrated rules: neglected below" in one.basis
    uncalibrated(FITTED)  # of attention
    told = probe.diagnose(trace, judge=lambda picture, words: {}, until=2)
    assert told["dog"].probability == probe.diagnose(trace, until=2)["dog"].probability is not None
    assert told.basis == probe.diagnose(trace, until=2).basis


def test_where_no_calibration_can_tell_the_look_alone_decides(uncalibrated):
    uncalibrated(AHEAD.model_copy(update={
        "signals": ("overlap", "preview"), "mean": (0.0,) * 2, "scale": (1.0,) * 2, "coefficients": (1.0, -1.0),
    }))  # fmt: skip
    alone = probe.diagnose(predicted(pair(), 0, 51, 255), ["dog"], judge=by_shade, until=2)
    assert alone["dog"].probability == pytest.approx(0.8) and alone.neglected == ("dog",)
    assert alone.basis.startswith("By what the judge expects of the predicted picture alone. 2 of 3 steps")


def test_a_function_that_is_sure_gives_finite_odds(uncalibrated):
    uncalibrated(AHEAD)
    found = probe.diagnose(predicted(pair(), 0, 0, 0), judge=lambda picture, words: {"cat": 1, "dog": 0}, until=2)
    odds = [finding.signals["preview"] for finding in found.findings]
    assert odds == pytest.approx([math.log(9999), -math.log(9999)])


@pytest.mark.parametrize("trace", [pair(), predicted(pair(), 0, 0, 0, made="fitted")], ids=["none", "fitted"])
def test_to_look_ahead_the_prediction_has_to_be_decoded(trace: Trace):
    """Fitted colours come from the finished picture, so they would tell of it."""
    with pytest.raises(NotRecorded, match=r"step 1 predicts, and this trace does not hold it decoded. .*steps=\[1\]"):
        probe.diagnose(trace, judge=by_shade, until=2)
    assert probe.diagnose(trace, until=2).ok


def test_the_step_that_is_looked_at_is_the_one_to_decode(uncalibrated):
    uncalibrated(AHEAD)
    assert [diagnosing.steps_ahead(pair(), until) for until in (1, 2, 3, 9, None)] == [[0], [1], [], [], []]
    trace = predicted(trace_of(PROMPT, {"cat": [spot(4, 4)] * 4, "dog": [spot(4, 12)] * 4}), 0, 51, 204, 255)
    small = trace.tree["thumbnails"].to_dataset().sel(step=[1])
    nodes = {path: node.to_dataset(inherit=False) for path, node in trace.tree.subtree_with_keys}
    some = replace(trace, tree=xr.DataTree.from_dict(nodes | {"thumbnails": small}))
    assert probe.diagnose(some, judge=by_shade, until=2)["dog"].probability == pytest.approx(0.8)
    with pytest.raises(NotRecorded, match="step 2 predicts"):
        probe.diagnose(some, judge=by_shade, until=3)


def test_menagerie_is_looked_ahead_at_by_its_own_judge():
    pipe = probe.load()
    with probe.record(pipe) as recording:
        pipe(PROMPT, num_inference_steps=4, generator=torch.Generator().manual_seed(0))
    trace = probe.decode_thumbnails(recording.trace, pipe)
    found = probe.diagnose(trace, judge=weights.judge(), until=3)
    step = Image.fromarray(trace.tree["thumbnails"]["thumbnails"].values[2, 0])
    likely = weights.judge().read(step).likely("dog")
    assert likely is not None and found["dog"].signals["preview"] == pytest.approx(log_odds(likely))


# What it looks like.


def test_it_is_frozen_and_prints_itself():
    found = probe.diagnose(pair(dog=0.05))
    with pytest.raises(FrozenInstanceError):
        found.prompt = "another"
    assert repr(found) == str(found)
    assert "<li>dog: neglected" in found._repr_html_()
    hostile = replace(found, prompt="<script>alert(1)</script>")
    assert "<script>" not in hostile._repr_html_()


def test_the_table_has_a_row_a_subject():
    table = probe.diagnose(pair(dog=0.05)).table()
    assert table[["subject", "verdict", "lost"]].values.tolist()[1] == ["dog", "neglected", 0]
    assert {"attention", "presence", "relative", "share", "kept", "overlap", "leak", "relevancy"} <= set(table.columns)


# In vain.


@pytest.mark.parametrize(
    ("subjects", "kind", "message"),
    [
        ("cat", BadInput, r"subjects is one string \('cat'\); give a list of words: subjects=\['cat'\]"),
        (["cat", "cat"], BadInput, "a subject is named twice: cat, cat"),
        (["owl"], NoSuchWord, "'owl' was not recorded; the words of this trace are: cat, dog"),
        (["and"], NotRecorded, r"'and' was not recorded.*Record it: probe.record\(pipe, words=\['and', ...\]\)"),
        ([], BadInput, r"no subject was found in 'a cat and a dog'; name them: subjects=\['cat'\]"),
    ],
)
def test_subjects_that_are_not_there(subjects: object, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        probe.diagnose(pair(), subjects)


def test_a_trace_without_what_is_needed_says_what_to_record():
    bare = make_trace()
    del bare.tree["attention"]
    with pytest.raises(NotRecorded, match=r"holds no attention; record it: probe.record\(pipe, words=\['cat', ...\]\)"):
        probe.diagnose(bare)
    with pytest.raises(NotRecorded, match="holds 0 pictures, and a judge needs picture 0; record a run that makes"):
        probe.diagnose(replace(pair(), pictures=()), judge=Saw())


def test_steps_and_judges_that_are_none():
    with pytest.raises(BadInput, match="until is 0; give the number of steps to look at, 1 or more"):
        probe.diagnose(pair(), until=0)
    with pytest.raises(BadInput, match=r"a str is not a judge; give an object with read\(picture\)"):
        probe.diagnose(pair(), judge="menagerie")


@pytest.mark.parametrize("name", ["sd1", "sdxl", "sd3", "flux1"])
def test_real_traces_of_several_families_can_be_diagnosed(name: str):
    pipe = pipelines.load(name)
    with probe.record(pipe) as recording:
        pipelines.run(pipe, name, prompt="a cat and a red balloon")
    found = probe.diagnose(recording.trace, until=1)
    assert [f.subject for f in found.findings] == ["cat", "balloon"]
    assert all(0 < f.signals["attention"] < 1 for f in found.findings)
