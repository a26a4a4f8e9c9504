"""Interventions for one prompt: what the prompt knows is filled in, what was said wins."""

from typing import Any

import pytest

from probe.errors import BadInput
from probe.study.methods import interventions
from probe.study.nursing import FILLED, fields, nurse_for

PROMPT = "a red car and a blue bowl"


@pytest.mark.parametrize(
    ("method", "filled"),
    [
        ("AttendAndExcite", {"subjects": ("car", "bowl")}),
        ("DivideAndBind", {"subjects": ("car", "bowl"), "attributes": {"car": "red", "bowl": "blue"}}),
        ("SynGen", {"bindings": {"car": ("red",), "bowl": ("blue",)}}),
        ("Conform", {"groups": (("red", "car"), ("blue", "bowl"))}),
    ],
)
def test_a_prompt_fills_in_what_it_knows(method: str, filled: dict[str, Any]):
    built = nurse_for(method, PROMPT)
    assert {name: getattr(built, name) for name in filled} == filled


def test_what_was_said_wins():
    built = nurse_for("DivideAndBind", PROMPT, ["bowl"], settings={"strength": 0.5})
    assert (built.subjects, built.attributes, built.strength) == (("bowl",), {"bowl": "blue"}, 0.5)
    assert nurse_for("AttendAndExcite", PROMPT, settings={"subjects": ["car"]}).subjects == ("car",)


def test_every_method_says_what_a_prompt_fills_in():
    assert all(set(fields(name)) <= set(FILLED) for name in interventions())
    assert fields("BoxDiff") == ("subjects",)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("AttendAndExcit", {}, "there is no intervention 'AttendAndExcit'; did you mean 'AttendAndExcite'"),
        ("BoxDiff", {}, "boxes: this is needed"),
        ("AttendAndExcite", {"strength": "much"}, "strength: .*found 'much'"),
        ("AttendAndExcite", {"subjects": []}, "AttendAndExcite has no subjects"),
    ],
)
def test_what_cannot_be_nursed(method: str, settings: dict[str, Any], message: str):
    with pytest.raises(BadInput, match=message):
        nurse_for(method, PROMPT, settings=settings)
