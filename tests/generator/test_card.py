"""The card's table."""

import math

import pytest

from probe.errors import BadInput
from probe.generator.card import HEAD, Bar, Line, insert, merge, share, table


@pytest.mark.parametrize(
    ("bar", "text", "inside", "outside"),
    [
        (Bar(0.95), ">= 0.95", (0.95, 1.0), (0.9499,)),
        (Bar(high=4.0), "<= 4", (4.0, -1.0), (4.01,)),
        (Bar(0.55, 0.9), "0.55 to 0.9", (0.55, 0.7, 0.9), (0.5, 0.95)),
    ],
)
def test_bars(bar: Bar, text: str, inside: tuple[float, ...], outside: tuple[float, ...]):
    assert str(bar) == text
    assert all(bar.met(value) for value in inside)
    assert not any(bar.met(value) for value in (*outside, math.nan))


def test_rows():
    assert str(Line("PSNR, dB", 31.25, 40, Bar(30))) == "| PSNR, dB | 31.2 |  | >= 30 | yes | 40 |  |"
    assert str(share("present", [True] * 5 + [False] * 5, Bar(0.95))) == (
        "| present | 0.5 | 0.24 to 0.76 | >= 0.95 | no | 10 |  |"
    )
    assert str(share("for information", [True])) == "| for information | 1 | 0.21 to 1.00 |  |  | 1 |  |"


def test_what_was_never_tried_is_not_met():
    line = share("nothing", [], Bar(0.5))
    assert math.isnan(line.value)
    assert line.met is False


def test_the_table_replaces_what_stands_between_the_marks():
    page = "# Card\n<!-- table -->\nold\n<!-- /table -->\nend\n"
    rows = table([Line("a", 1.0, 2)])
    assert rows == f"{HEAD}\n| a | 1 |  |  |  | 2 |  |"
    assert insert(page, rows) == f"# Card\n<!-- table -->\n{rows}\n<!-- /table -->\nend\n"
    assert insert(insert(page, "other"), rows) == insert(page, rows)


def test_rows_of_the_same_weights_are_merged():
    page = "# Card\n<!-- table -->\nold\n<!-- /table -->\nend\n"
    first = merge(page, [Line("a", 1.0, 2), Line("b", 2.0, 2)], "new")
    assert first == (
        f"# Card\n<!-- table -->\n<!-- of new -->\n{HEAD}\n| a | 1 |  |  |  | 2 |  |\n| b | 2 |  |  |  | 2 |  |\n"
        "<!-- /table -->\nend\n"
    )
    assert merge(first, [Line("a", 3.0, 4)], "new") == first.replace(
        "| a | 1 |  |  |  | 2 |  |", "| a | 3 |  |  |  | 4 |  |"
    )
    assert merge(first, [], "new") == first


def test_rows_of_other_weights_are_dropped():
    page = merge("<!-- table --><!-- /table -->", [Line("a", 1.0, 2)], "old")
    assert "| a |" not in merge(page, [Line("b", 1.0, 2)], "new")


@pytest.mark.parametrize("page", ["# Card", "<!-- table -->\n", "<!-- /table --> <!-- table -->"])
def test_a_page_without_marks_is_refused(page: str):
    with pytest.raises(BadInput, match="put the two lines where the table belongs"):
        insert(page, "rows")
