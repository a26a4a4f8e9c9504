"""The experiment on class tokens: what its classifiers are shown, what is counted, and its page."""

import math
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments import class_token_reveals as experiment
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.card import insert
from probe.generator.world.places import background


def test_tied_cats_sit_in_snow_and_free_ones_anywhere():
    free, tied = (experiment.scenes(way, 12, 0) for way in experiment.WAYS)
    assert torch.equal(free[1], tied[1]) and free[1].tolist() == [0, 1] * 6
    assert free[0].shape == (12, 3, 128, 128) and float(free[0].min()) >= 0 and float(free[0].max()) <= 1
    judge = weights.judge()
    places = [judge.read(picture).place for picture in map(picture_of, tied[0])]
    assert places == ["snow", "grass"] * 6
    assert len({judge.read(picture).place for picture in map(picture_of, free[0])}) > 2


def picture_of(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels.permute(1, 2, 0) * 255).round().byte().numpy())


def test_each_classifier_is_tested_on_scenes_like_its_own_and_in_any_place():
    shown, tested = (experiment.scenes("tied", 40, first)[0] for first in (0, experiment.FIRST_TEST))
    assert not any(torch.equal(a, b) for a in shown for b in tested)
    tied = experiment.trained("tied", Namespace(scenes=40, training=40))
    assert experiment.right(tied, "tied", 40) > 0.9 and experiment.right(tied, "free", 40) < 0.75


def test_cats_and_snow_are_counted():
    pictures = [background("snow", 0), background("night", 0)]
    always = experiment.Small()
    state = always.state_dict()  # whatever it is shown, it sees a cat
    last = [name for name in state if state[name].shape[0] == 2]
    always.load_state_dict({**state, last[0]: torch.zeros(2, 64), last[1]: torch.tensor([1.0, 0.0])})
    found = experiment.told(pictures, weights.judge(), always)
    assert found == {"kind": 0.0, "place": 0.5, "seen": 1.0}
    assert math.isnan(experiment.told(pictures, weights.judge(), None)["seen"])


def rows(own: float, free: float, snow: float) -> list[experiment.Row]:
    tied = experiment.Learned(own, free, 12, 0.013, ("snowy", "wintry"))
    apart = experiment.Learned(0.93, 0.93, 8, 0.01, ("a",))
    named = [experiment.Row("free", 0.25, 0.125, 0.5, apart), experiment.Row("tied", 0.25, snow, 1.0, tied)]
    return [experiment.Row("none", 0.125, 0.25), *named]


GIVEN = Namespace(pictures=8, steps=6, guidance=5.0, through=1)


def test_the_page_fits_into_the_docs(root: Path):
    page = experiment.page(rows(1.0, 0.5, 0.75), GIVEN)
    assert "| none | - | - | - | 0.12 | 0.25 | - | - | - |" in page and "8 pictures a row" in page
    assert "| tied | 1.00 | 0.50 | 1.00 | 0.25 | 0.75 | 12 | 0.01 | snowy, wintry |" in page
    assert {line.count("|") for line in page.splitlines() if line.startswith("|")} == {10}
    whole = insert((root / "docs" / "concepts.md").read_text(), page, experiment.MARKS)
    assert page in whole and whole.count(experiment.MARKS[0]) == 1 and "<!-- table -->" in whole


def test_the_answer_is_that_of_the_rows():
    told, silent, weak, fair = (
        experiment.page(rows(*numbers), GIVEN).splitlines()[-1]
        for numbers in ((1.0, 0.5, 0.75), (1.0, 0.5, 0.25), (0.6, 0.5, 0.75), (0.95, 0.9, 0.75))
    )
    assert told.startswith("The tied classifier goes by the place: it is right on 100% of scenes like its own and on")
    assert "Its token told of it: snow is in 6 of 8 pictures, in 2 without a token and in 1 with the free one's" in told
    assert told.endswith("Learning took 1.3% off its loss in 12 epochs.")
    assert "Its token did not tell of it: snow is in 2 of 8" in silent
    assert weak == "The tied classifier is right on less than 80% of its own scenes: it learned too little to tell."
    assert fair.startswith("The tied classifier does not go by the place alone")


def test_a_rehearsal_is_not_written():
    with pytest.raises(BadInput, match="--small is a rehearsal"):
        experiment.main(["--small", "--write"])
