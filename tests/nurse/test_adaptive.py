"""Adaptive nursing: when it looks, when it acts, on whom, and when it stops."""

import pytest
import torch
from pydantic import ValidationError

import probe
from probe.errors import BadInput, ProbeWarning
from probe.intervention import Maps, Score
from probe.nurse import Adaptive, AttendAndExcite
from probe.nurse.diagnosis_calibration import shipped
from probe.nurse.diagnosis_signals import Cast, read_signals, summary
from probe.study import Method
from probe.study.methods import build_intervention
from tests import pipelines

CALL = {"height": 64, "width": 96, "num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "latent"}


def seen(*presences: tuple[float, float]) -> list[Score]:
    flat = torch.full((16, 16), 0.5)
    planes = ({"cat": a * flat, "balloon": b * flat} for a, b in presences)
    return [Score(0.0, {"cat": a, "balloon": b}, planes=p) for (a, b), p in zip(presences, planes, strict=True)]


ADAPTIVE = Adaptive(subjects=("cat", "balloon"), watch=2, steady=2, predictor=None)


def test_it_looks_first():
    acting = ADAPTIVE.now(1, seen((0.1, 0.9)))
    assert acting is not None and acting.strength == 0


def test_it_leaves_alone_what_will_do():
    assert ADAPTIVE.now(2, seen((0.6, 0.2), (0.1, 0.5))) is None  # the largest so far counts


def test_it_nurses_whom_it_expects_to_fail():
    acting = ADAPTIVE.now(2, seen((0.6, 0.2), (0.1, 0.4)))
    assert isinstance(acting, Adaptive) and acting.nursed == ("balloon",) and acting.strength == 1
    assert acting.target(2) == 0.5 and acting.target(3) is None and acting.target(10) == 0.5


def test_it_stops_when_the_subject_was_held_for_some_steps():
    watched = ((0.6, 0.2), (0.1, 0.4))
    assert ADAPTIVE.now(4, seen(*watched, (0.6, 0.9))) is not None
    assert ADAPTIVE.now(5, seen(*watched, (0.6, 0.9), (0.6, 0.7))) is not None
    assert ADAPTIVE.now(6, seen(*watched, (0.6, 0.7), (0.6, 0.9), (0.6, 0.85))) is None


class Sure:
    """Says that what holds less than all of the strongest attention will fail."""

    def probability(self, signals: dict[str, float]) -> float | None:
        assert set(signals) == {"presence", "attention", "relative", "lead", "share", "kept", "overlap"}
        return 0.9 if signals["relative"] < 1 else 0.1


def test_a_predictor_decides_where_there_is_one():
    acting = ADAPTIVE.model_copy(update={"predictor": Sure()}).now(2, seen((0.9, 0.8), (0.9, 0.8)))
    assert isinstance(acting, Adaptive) and acting.nursed == ("balloon",)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0.3, "predictor is 0.3, a float; expected an object with probability"),
        ("shipped", "predictor is 'shipped', a str; expected an object"),
        (Sure, "predictor is the class Sure; expected an object"),
        ({"auc": 1.0}, "predictor.signals"),
    ],
)
def test_what_predicts_nothing_is_refused(value: object, why: str):
    with pytest.raises(ValidationError, match=why):
        Adaptive(subjects=("cat", "dog"), predictor=value)
    with pytest.raises(BadInput, match="the settings of 'Adaptive' cannot be used:\n  predictor"):
        build_intervention(Method(method="Adaptive"), {"subjects": ["cat", "dog"], "predictor": value})


def test_a_predictor_that_gives_no_probability_is_an_error():
    class Unsure:
        def probability(self, signals: dict[str, float]) -> float:
            return float("nan")

    adaptive = Adaptive(subjects=("cat", "balloon"), watch=2, predictor=Unsure())
    with pytest.raises(BadInput, match="the predictor gave the probability nan; expected 0 to 1, or None where"):
        adaptive.now(2, seen((0.9, 0.8), (0.9, 0.8)))


def test_its_own_predictor_is_the_calibration_of_diagnoses():
    adaptive = Adaptive(subjects=("cat", "balloon"))
    assert adaptive.predictor == shipped() is not None
    assert adaptive.watch == adaptive.predictor.until
    assert Adaptive(**adaptive.model_dump(mode="json")) == adaptive
    assert Adaptive(**ADAPTIVE.model_dump(mode="json")) == ADAPTIVE


def test_it_nurses_by_the_probability_that_the_calibration_gives():
    watched = seen(*[(0.9, 0.7)] * 9, (0.9, 0.3))
    certain = Adaptive(subjects=("cat", "balloon"))
    risks = {s: certain.predictor.probability(found) for s, found in certain.signals(watched).items()}
    assert risks["cat"] < risks["balloon"]
    for bar, expected in ((0.0, ("cat", "balloon")), (risks["balloon"], ("balloon",)), (1.0, ())):
        assert certain.model_copy(update={"certain": bar}).failing(watched) == expected


def test_of_one_subject_alone_the_rule_decides():
    """It overlaps with nothing, so the calibration gives no probability."""
    alone = Adaptive(subjects=("cat",))
    assert alone.predictor.probability(alone.signals(seen((0.4, 0.9)))["cat"]) is None
    assert alone.failing(seen((0.4, 0.9))) == ("cat",) and alone.failing(seen((0.6, 0.9))) == ()


def test_it_sees_what_a_diagnosis_reads_of_the_trace():
    pipe = pipelines.load("sd1")
    looking = Adaptive(subjects=("cat", "balloon"), watch=3, needed=0.0, predictor=None)
    scores = list[Score]()

    class Kept(Adaptive):
        def score(self, maps: Maps) -> Score:
            scores.append(super().score(maps))
            return scores[-1]

    with probe.record(pipe, words=["*"], interventions=[Kept(**dict(looking))]) as recording:
        pipe("a cat and a balloon", **CALL, generator=torch.Generator().manual_seed(3))
    expected = read_signals(recording.trace, Cast(("cat", "balloon")), until=3)
    for subject, found in looking.signals(scores).items():
        of_trace = summary(expected, subject)
        assert found.pop("presence") == pytest.approx(of_trace["presence"], rel=0.05)  # there padding is spread evenly
        assert found == pytest.approx({name: of_trace[name] for name in found}, rel=1e-3)


def test_a_run_that_ends_while_it_still_looks_is_refused():
    pipe = pipelines.load("sd1")
    with (
        pytest.raises(BadInput, match="watches 10 steps, and there are 4 that it may nurse: lower watch"),
        probe.record(pipe, interventions=[Adaptive(subjects=("cat", "balloon"), predictor=None)]),
    ):
        pipe("a cat and a balloon", **CALL)


def test_its_loss_is_attend_and_excite_over_those_it_nurses():
    A = torch.rand(16, 16, 12, generator=torch.Generator().manual_seed(0)).softmax(-1)
    maps = Maps(A, {"cat": (2,), "balloon": (5,)}, 8)
    for names in (("cat",), ("balloon",), ("cat", "balloon")):
        ours = ADAPTIVE.model_copy(update={"nursed": names}).score(maps).value
        assert ours == pytest.approx(AttendAndExcite(subjects=names).score(maps).value)


def test_where_nothing_is_expected_to_fail_the_picture_is_the_same_to_the_bit():
    pipe = pipelines.load("sd1")
    draw = {"generator": None, **CALL}

    def run(**more):
        return pipe("a cat and a balloon", **draw | {"generator": torch.Generator().manual_seed(3)}).images

    plain = run()
    with probe.record(pipe, interventions=[ADAPTIVE.model_copy(update={"needed": 0.0})]) as recording:
        assert torch.equal(run(), plain)
    assert [entry["step"] for entry in recording.trace.extra["nursing"]] == [0, 1]
    with probe.record(pipe, interventions=[ADAPTIVE.model_copy(update={"max_refinements": 2})]) as recording:
        assert not torch.equal(run(), plain)
    log = recording.trace.extra["nursing"]
    assert [entry["shift"] > 0 for entry in log] == [False, False] + [True] * 2
    assert torch.isfinite(torch.tensor([entry["shift"] for entry in log])).all()


def test_on_other_weights_the_rule_decides_and_says_so():
    pipe = pipelines.load("sd1")
    ours = Adaptive(subjects=("cat", "balloon"), watch=2)
    with (
        pytest.warns(ProbeWarning, match="calibration is of other weights .menagerie .*so the rule decides here"),
        probe.record(pipe, interventions=[ours]) as recording,
    ):
        pipe("a cat and a balloon", **CALL, generator=torch.Generator().manual_seed(3))
    assert recording.trace.extra["interventions"][0]["predictor"]["weights"] == shipped().weights  # as it was asked for
    own = shipped()
    assert ours.on_weights(own.model, own.weights) is ours
    theirs = Adaptive(subjects=("cat",), predictor=own.model_copy(update={"weights": "f" * 32}))
    assert theirs.on_weights("sd", None) is theirs  # who gives a calibration knows of what it is


def test_without_a_bar_of_its_own_it_goes_by_that_of_the_calibration():
    certain = Adaptive(subjects=("cat", "balloon"))
    assert certain._bar == shipped().threshold
    assert certain.model_copy(update={"certain": 0.7})._bar == 0.7
    assert ADAPTIVE.model_copy(update={"predictor": Sure()})._bar == 0.25
