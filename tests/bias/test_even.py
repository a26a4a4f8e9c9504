"""Turned until even: the search against curves written by hand, the study against pictures of the same text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.bias import Aim, Balance, Confusion, ZeroShot, coefficient, strength
from probe.bias.even import Try, bisect
from probe.bias.shares import Estimate, wilson
from probe.concepts.concept import Concept
from probe.concepts.pseudo_token import encoders
from probe.errors import BadInput, NoSuchWord
from probe.study import Study
from probe.study.results import PICTURE, place, scan
from tests import pipelines
from tests.nurse.drawing import pipe

TOWARDS = "a photo of a female {group}"
PHRASES = {"kind": {"one": "a doctor", "other": "a cat"}}
ERRORS = {"kind": Confusion(("one", "other"), ((50, 0), (0, 50)), "by hand")}


def reading(value: float, share: float, reach: float = 0.05) -> Try:
    return Try(value, f"strength {value:g}", 100, 100, Estimate(share, share - reach, share + reach))


def searched(curve: Any, *, most: int = 8, last: float = 1.0, wanted: float = 0.5) -> list[Try]:
    knob = strength(TOWARDS, last=last)
    return list(bisect(lambda value: reading(value, curve(value)), knob, wanted=wanted, most=most))


@pytest.mark.parametrize("rising", [True, False])
def test_the_middle_of_what_encloses_the_share_is_tried_until_it_is_even(rising: bool):
    """The share crosses one half at 0.3; within 0.05 of it the slope is 1, so 0.25 is near enough."""
    found = searched(lambda x: 0.2 + x if rising else 0.8 - x)
    assert [each.value for each in found] == [0, 1, 0.5, 0.25]
    assert [each.side(0.5) for each in found] == ([-1, 1, 1, 0] if rising else [1, -1, -1, 0])


def test_it_ends_where_there_is_nothing_more_to_try():
    assert [each.value for each in searched(lambda _: 0.52)] == [0]  # even as it is
    assert [each.value for each in searched(lambda _: 0.9)] == [0, 1]  # on one side
    assert [each.value for each in searched(lambda x: 0.9 - 0.42 * x)] == [0, 1]  # even at the end
    jump = searched(lambda x: 0.2 if x < 1 / 3 else 0.8, most=5)
    assert [each.value for each in jump] == [0, 1, 0.5, 0.25, 0.375]
    assert len(searched(lambda x: x, most=2, wanted=0.3)) == 2


def made(*tries: Try) -> Balance:
    return Balance("strength", "doctor", "gender", "man", 0.5, "reader", tries)


def test_what_came_of_it_is_said():
    even = made(reading(0, 0.9), reading(1, 0.2), reading(0.5, 0.53))
    assert even.even and even.best.value == 0.5 and even.one_way
    assert "Even, as far as this many pictures can tell, at strength 0.5: 0.530 (0.480 to 0.580)" in str(even)
    assert "take more seeds" in made(reading(0, 0.5, 0.2)).told and "take more seeds" not in even.told
    side = made(reading(0, 0.9), reading(1, 0.7))
    assert not side.even and "the shares stay on one side; turn further" in side.told and "at strength 1:" in side.told
    jump = made(reading(0, 0.9), reading(1, 0.2), reading(0.5, 0.3))
    assert "Not even after 3 values" in jump.told and jump.best.value == 0.5
    hill = made(reading(0, 0.3), reading(1, 0.2), reading(0.5, 0.8))
    assert not hill.one_way and "do not go one way" in str(hill)


def test_all_that_was_tried_is_kept(tmp_path: Path):
    costly = Try(0.5, "strength 0.5", 9, 8, wilson(4, 8), {"clip_full": Estimate(-0.1, -0.2, 0.0)})
    held = json.loads(made(reading(0, 0.9), costly).save(tmp_path).read_text())
    assert [row["value"] for row in held["tries"]] == [0, 0.5] and held["best"] == 0.5 and held["even"]
    assert held["tries"][1]["clip_full_low"] == -0.2 and held["tries"][0]["clip_full"] is None
    assert held["classifier"] == "reader" and held["told"].startswith("Even")


def concept_of(coefficients: dict[str, float]) -> Concept:
    norms = {each.name: float(each.table.weight.detach().norm(dim=1).mean()) for each in encoders(pipe("sd1"))}
    return Concept("a doctor", tuple(coefficients), tuple(coefficients.values()), norms)


def given(path: Path, **more: Any) -> dict[str, Any]:
    tiny = {"models": str(pipelines.folder("sd1")), "seeds": "0-1", "steps": 2, "size": (64, 64), "guidance": 3}
    return {"classifier": ZeroShot(phrases=PHRASES), "folder": str(path), **tiny, **more}


def pictures(path: Path) -> dict[str, np.ndarray]:
    """[y, x, rgb] by method, of seed 0."""
    rows = [result.row for result in scan(path).values() if result.row["seed"] == 0]
    return {row["method"]: np.asarray(Image.open(place(path, row["key"]) / PICTURE), int) for row in rows}


AIM = Aim(label="other", share=0.75, most=3)


def test_a_words_coefficient_is_turned_and_goes_on_where_it_was_interrupted(tmp_path: Path):
    concept, ran = concept_of({"cat": 2.0, "dog": 1.0}), list[Study]()
    knob, asked = coefficient(concept, "cat"), given(tmp_path)
    found = probe.bias.balance("doctor", knob, aim=AIM, errors=ERRORS, run=lambda s: (ran.append(s), s.run()), **asked)
    assert [len(study.interventions) for study in ran] == [2, 3, 4][: len(found.tries)]
    assert [each.value for each in found.tries] == [1, 0, 0.5][: len(found.tries)] and found.group == "doctor"
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("manifest.json")}
    assert len(stamps) == 2 * (1 + len(found.tries))  # plain too
    row = probe.bias.open(tmp_path).shares.query("method == 'cat x 1' and label == 'other'").iloc[0]
    first = found.tries[0]
    assert (first.pictures, first.read) == (2, 2)
    assert first.share.low == pytest.approx(row["corrected_low"], abs=1e-9)  # the table is written with ten digits
    again = probe.bias.balance("doctor", knob, aim=AIM, errors=ERRORS, **asked)
    assert str(again) == str(found) and {path: path.stat().st_mtime_ns for path in stamps} == stamps
    with concept.spoken(pipe("sd1")) as prompt:
        spoken = drawn(prompt)
    held = pictures(tmp_path)
    assert np.abs(held["cat x 1"] - spoken).max() <= 1 < np.abs(held["cat x 1"] - held["plain"]).max()


def drawn(prompt: str) -> np.ndarray:
    """The same call without a study."""
    call = {"num_inference_steps": 2, "height": 64, "width": 64, "guidance_scale": 3.0}
    return np.asarray(pipe("sd1")(prompt, generator=torch.Generator().manual_seed(0), **call).images[0], int)


def test_a_steering_begins_at_the_prompt_itself(tmp_path: Path):
    """So strength 0 is drawn once, as plain; scorers say what each strength costs against it."""
    more = {"scorers": ("clip",)}
    found = probe.bias.balance("doctor", strength(TOWARDS), aim=AIM, errors=ERRORS, **given(tmp_path, **more))
    assert found.tries[0].method == "plain" and set(pictures(tmp_path)) == {each.method for each in found.tries}
    assert found.tries[0].costs["clip_full"] == Estimate(0, 0, 0)
    if len(found.tries) > 1:
        table = probe.Study.open(tmp_path).table().pivot(index="seed", columns="method", values="clip_full")
        assert found.table.loc[1, "clip_full"] == pytest.approx((table["strength 1"] - table["plain"]).mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aim": Aim(label="both")}, "reads no kind 'both'; it reads kind: one, other"),
        ({"aim": Aim(attribute="age")}, "reads no age ''; it reads kind: one, other"),
        ({"guidance": [3, 5]}, "one setting is made even at a time, and there are several guidance"),
        ({"within": 0.05}, "2 pictures of a group are too few"),
        ({"template": ["a photo of {group}", "the {group}"]}, "stand for one prompt, and this study has 2"),
    ],
)
def test_what_cannot_be_made_even_is_refused_before_any_work(tmp_path: Path, change: dict[str, Any], message: str):
    asked = given(tmp_path) | change
    with pytest.raises(BadInput, match=message):
        probe.bias.balance("doctor", coefficient(concept_of({"cat": 1.0}), "cat"), **asked)
    assert not list(tmp_path.iterdir())


def test_knobs_that_cannot_be_turned():
    with pytest.raises(NoSuchWord, match="'man' is not in this concept; its words are: cat"):
        coefficient(concept_of({"cat": 1.0}), "man")
    with pytest.raises(BadInput, match="strength is turned from 0 to 0; give another `last`"):
        strength(TOWARDS, last=0)
    with pytest.raises(BadInput, match="1 values and a share of None"):
        Aim(most=1)
