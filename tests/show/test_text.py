"""Text made drawable: nothing raises, nothing is lost without a sign."""

import pytest

from probe.show.text import drawable, families, shorten, spread, wrap
from tests.show.hostile import WORDS

ONE = ["DejaVu Sans"]


def test_there_is_always_a_font():
    assert families()[0] == "DejaVu Sans"


@pytest.mark.parametrize("text", ["a cat", "$x$ is 5 % of a_b^c", "naïve façade", "\\alpha {}"])
def test_what_the_font_has_is_untouched(text: str):
    assert drawable(text, ONE) == text


def test_what_no_font_has_is_named():
    assert drawable("a 🎈", ONE) == "a [balloon]"
    assert drawable("猫", ONE) == "[U+732B]"


def test_joins_controls_and_line_breaks_do_not_show():
    assert drawable("a\n\tcat\x00\u200b", ONE) == "a cat"
    assert drawable("👩\u200d🚀\ufe0f", ONE) == "[woman][rocket]"


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("limit", [5, 12, 200])
def test_shortened_text_fits_and_shows_the_cut(text: str, limit: int):
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == drawable(text) or "…" in short


def test_the_middle_is_what_is_left_out():
    assert shorten("abcdefghijklmnop", 10) == "abcdef…nop"


def test_a_long_prompt_is_wrapped_and_cut():
    lines = wrap("a cat and a dog " * 30, 40, 3).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 40 for line in lines)
    assert lines[-1].endswith("…")
    assert wrap("a cat", 40) == "a cat"


@pytest.mark.parametrize(
    ("items", "count", "expected"),
    [(range(50), 8, [0, 7, 14, 21, 28, 35, 42, 49]), (range(3), 8, [0, 1, 2]), (range(9), 1, [0]), ([], 4, [])],
)
def test_spread_keeps_the_first_and_the_last(items: range, count: int, expected: list[int]):
    assert spread(list(items), count) == expected
