"""Contact sheets: where the pictures are, and captions that fit."""

import numpy as np
import pytest
from PIL import Image

from probe.errors import BadInput
from probe.show import contact_sheet
from probe.show.sheet import GAP
from tests.show.hostile import WORDS

COLOURS = ["red", "lime", "blue", "yellow", "magenta"]


def squares(count: int, side: int = 40) -> list[Image.Image]:
    return [Image.new("RGB", (side, side), COLOURS[i % len(COLOURS)]) for i in range(count)]


def test_pictures_stand_row_by_row():
    sheet = contact_sheet(squares(5), columns=3)
    assert sheet.size == (3 * (40 + GAP) + GAP, 2 * (40 + GAP) + GAP)
    centres = [(GAP + 20 + i % 3 * (40 + GAP), GAP + 20 + i // 3 * (40 + GAP)) for i in range(5)]
    expected = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS]
    assert [sheet.getpixel(centre) for centre in centres] == expected


def test_captions_stand_below_and_stay_in_their_column():
    bare = contact_sheet(squares(3, 96), columns=3)
    captions = ["a cat", "", " ".join(WORDS)]
    sheet = contact_sheet(squares(3, 96), captions, columns=3)
    assert sheet.height > bare.height
    ink = np.asarray(sheet.convert("L"))[GAP + 96 + 1 :] < 200
    columns = [slice(GAP + i * (96 + GAP), GAP + i * (96 + GAP) + 96) for i in range(3)]
    assert [bool(ink[:, column].any()) for column in columns] == [True, False, True]
    for column in columns:
        ink[:, column] = False
    assert not ink.any(), "nothing is written between the columns"
    assert not np.asarray(sheet.convert("L"))[-2:].min() < 200, "nothing reaches the lower edge"


@pytest.mark.parametrize(
    ("pictures", "captions", "columns"), [(0, 0, 2), (2, 1, 2), (2, 0, 0)], ids=["none", "captions", "columns"]
)
def test_what_does_not_fit_together_is_refused(pictures: int, captions: int, columns: int):
    with pytest.raises(BadInput, match=f"got {pictures} pictures, {captions} captions, {columns} columns"):
        contact_sheet(squares(pictures), ["a"] * captions, columns=columns)
