"""What a report says: regions, the prompt in pieces, percentages, settings."""

import numpy as np
import pytest

from probe.show import facts
from probe.words import Word
from tests.factories import make_trace
from tests.show.test_render import without


def word(text: str, start: int, label: str | None = None) -> Word:
    return Word(label=label or text, text=text, start=start, end=start + len(text), tokens={})


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [(0, 0, "top left"), (0, 4, "top"), (4, 4, "centre"), (4, 8, "right"), (8, 4, "bottom"), (8, 0, "bottom left")],
)
def test_regions_in_words(row: int, column: int, expected: str):
    plane = np.zeros((9, 9))
    plane[row, column] = 1
    assert facts.region(plane) == expected


def test_an_even_map_peaks_nowhere():
    assert facts.region(np.full((4, 4), 0.3)) == "nowhere in particular"


def test_the_prompt_is_cut_at_its_words_and_nothing_is_lost():
    prompt = "A Cat, and a cat!"
    words = [word("cat", 13, "cat#2"), word("cat", 2), word("and", 7)]
    cut = facts.pieces(prompt, words, ("cat#2", "cat"))
    assert "".join(piece.text for piece in cut) == prompt
    assert [(piece.text, piece.rank) for piece in cut if piece.rank is not None] == [("Cat", 1), ("cat", 0)]


def test_words_that_do_not_lie_in_this_prompt_are_left_out():
    words = [word("cat", 0), word("cat", 90), word("dog", 4), word("og", 5)]
    assert facts.pieces("two dogs", words, ("cat", "dog", "og")) == [
        facts.Piece("two "),
        facts.Piece("dog", 1),
        facts.Piece("s"),
    ]


def test_rows_are_means_over_cells_and_steps():
    maps = np.zeros((2, 2, 4, 4))  # [step, word, y, x]
    maps[0, 0, 0, 3] = 0.8
    maps[1, 0, 0, 3] = 0.4
    maps[:, 1] = 0.5
    cat, end = facts.word_rows(("cat", "<end>"), maps, ("<end>",))
    assert (cat.mean, cat.peak, cat.where) == (pytest.approx(0.0375), pytest.approx(0.6), "top right")
    assert cat.line == (pytest.approx(0.05), pytest.approx(0.025))
    assert (cat.special, end.special) == (False, True)


@pytest.mark.parametrize(("share", "text"), [(0.12345, "12.3 %"), (0.000123, "0.0123 %"), (1.0, "100 %"), (0, "0 %")])
def test_percent(share: float, text: str):
    assert facts.percent(share) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_polyline_goes_from_left_to_right_and_up_with_the_value():
    points = [tuple(map(float, point.split(","))) for point in facts.polyline([0, 1, 2]).split()]
    assert points == [(0, 26), (60, 14), (120, 2)]
    assert facts.polyline([0.0]) == "0.0,26.0"


def test_guidance_has_no_value_where_there_is_none():
    record = facts.guidance(make_trace(steps=3))
    assert record["step"] == [0, 1, 2]
    assert record["cosine_previous"] == [None, pytest.approx(0.9), pytest.approx(0.9)]
    assert facts.guidance(without(make_trace(), "guidance")) == {}


def test_settings_say_what_is_not_known():
    run = make_trace().run.model_copy(update={"seed": None, "guidance_scale": None, "revision": None, "created": ""})
    told = dict(facts.settings(run))
    assert (told["seed"], told["guidance scale"], told["revision"]) == ("not fixed", "none", "not known")
    assert told["made"] == "at an unknown time"


def test_the_scheduler_in_words():
    config = {"_class_name": "DDIMScheduler", "clip_sample": False, "trained_betas": None, "steps_offset": 1}
    run = make_trace().run.model_copy(update={"scheduler": config})
    assert facts.scheduler(run) == [("class name", "DDIMScheduler"), ("clip sample", "no"), ("steps offset", "1")]
