"""The experiment on class tokens: what its classifiers are shown, what is counted, and its page."""

import math
from argparse import Namespace
from pathlib import Path

import torch
from PIL import Image

from experiments import class_token_reveals as experiment
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


def test_cats_and_snow_are_counted():
    pictures = [background("snow", 0), background("night", 0)]
    always = experiment.Small()
    state = always.state_dict()  # whatever it is shown, it sees a cat
    last = [name for name in state if state[name].shape[0] == 2]
    always.load_state_dict({**state, last[0]: torch.zeros(2, 64), last[1]: torch.tensor([1.0, 0.0])})
    found = experiment.told(pictures, weights.judge(), always)
    assert found == {"kind": 0.0, "place": 0.5, "seen": 1.0}
    assert math.isnan(experiment.told(pictures, weights.judge(), None)["seen"])


def test_the_page_fits_into_the_docs(root: Path):
    row = experiment.Row("tied", 0.5, 0.25, 0.75, 1.0, 12, ("snowy", "wintry"))
    page = experiment.page([row], Namespace(pictures=8, steps=6, guidance=5.0, through=1))
    assert "| tied | 0.50 | 1.00 | 0.25 | 0.75 | 12 | snowy, wintry |" in page and "8 pictures a row" in page
    whole = insert((root / "docs" / "concepts.md").read_text(), page, experiment.MARKS)
    assert page in whole and whole.count(experiment.MARKS[0]) == 1 and "<!-- table -->" in whole
