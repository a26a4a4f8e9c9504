"""What a concept holds of words that name labels: by hand."""

from types import ModuleType

import pytest

import probe
from probe.bias.tables import Known
from probe.concepts.concept import Concept
from probe.errors import BadInput
from tests.bias.test_audits import ERROR, LABELS, REFERENCE, rows

NAMES = probe.bias.__all__
DOCTOR = Concept("a doctor", ("nurse", "man", "guy", "woman"), (0.5, 0.3, 0.1, 0.1), {"text_encoder": 1.0})


def test_what_is_held_of_gender_words():
    assert probe.bias.held(DOCTOR) == {"man": pytest.approx(0.8), "woman": pytest.approx(0.2)}
    assert probe.bias.held(DOCTOR, {"a": ("cat",), "b": ("dog",)}) == {}


def test_balanced_holds_equal_parts_and_as_much_together():
    even = probe.bias.balanced(DOCTOR)
    assert probe.bias.held(even) == {"man": pytest.approx(0.5), "woman": pytest.approx(0.5)}
    assert sum(even.coefficients) == pytest.approx(sum(DOCTOR.coefficients))
    assert even["nurse"] == DOCTOR["nurse"] and even["man"] / even["guy"] == pytest.approx(3)
    assert even.provenance["scaled"][0] == ["man", pytest.approx(0.625)]
    back = probe.bias.balanced(even, shares={"man": 0.8, "woman": 0.2})
    assert back.coefficients == pytest.approx(DOCTOR.coefficients)


def test_what_is_not_there_cannot_be_turned_up():
    with pytest.raises(BadInput, match="none of the words of woman is in the concept 'a doctor'.*Recipe\\(words="):
        probe.bias.balanced(DOCTOR.without(["woman"]))


def test_what_is_held_stands_beside_what_was_perceived():
    audit = probe.bias.tidy(rows(), Known(LABELS, {"gender": ERROR}, REFERENCE))
    found = probe.bias.beside(audit, {"doctor": DOCTOR, "artist": DOCTOR.without(["man", "guy", "woman"])})
    assert list(found["group"].unique()) == ["doctor"] and len(found) == 4  # two scales, two labels
    row = found.query("guidance == 5 and label == 'man'").iloc[0]
    share = audit.shares.query("group == 'doctor' and guidance == 5 and label == 'man'").iloc[0]
    assert row["held"] == pytest.approx(0.8) and row["reference"] == 0.7
    assert (row["share"], row["low"]) == (share["corrected"], share["corrected_low"])
    with pytest.raises(BadInput, match="no concept of pilot holds a label of gender; the groups are doctor, artist"):
        probe.bias.beside(audit, {"pilot": DOCTOR})


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_room_is_there_and_no_file(name: str):
    value = getattr(probe.bias, name)
    assert value and not isinstance(value, ModuleType)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'audits_'; it has LIMITS, .*tidy"):
        print(probe.bias.audits_)
