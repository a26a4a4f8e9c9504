"""The figure of shares: every dot, interval and reference lies where its numbers say."""

import pytest

from probe.errors import BadInput
from probe.show import SharePanel, share_panels
from probe.show.evaluation import Interval

ROWS = [Interval("doctor", 0.8, 0.7, 0.9), Interval("chef", 0.3, 0.1, 0.6)]


def test_dots_intervals_and_references():
    figure = share_panels([SharePanel("men", {"one": ROWS, "two": ROWS[::-1]}, {"chef": 0.5})], "who read it")
    (ax,) = figure.axes
    one, two = ax.get_lines()
    assert list(one.get_xdata()) == [0.8, 0.3] and list(two.get_xdata()) == [0.3, 0.8]
    heights = dict(zip(two.get_xdata(), two.get_ydata(), strict=True))
    assert heights[0.8] == pytest.approx(0.175) and heights[0.3] == pytest.approx(1.175)  # below the row's middle
    reference, first, _ = (each.get_segments() for each in ax.collections)
    assert reference[0].tolist() == [[0.5, 0.55], [0.5, 1.45]]
    assert [segment[:, 0].tolist() for segment in first] == [[0.7, 0.9], [0.1, 0.6]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["doctor", "chef"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["in the data", "one", "two"]


def test_many_narrow_panels_end_where_their_shares_do():
    few = share_panels([SharePanel("tone dark", {"one": ROWS[1:]})])
    many = share_panels([SharePanel(f"tone {i}", {"one": ROWS[1:]}) for i in range(6)])
    assert few.axes[0].get_xlim()[1] == pytest.approx(1.02)
    assert many.axes[0].get_xlim()[1] == pytest.approx(0.612) and many.axes[5].get_xlabel() == "5"


@pytest.mark.parametrize("panels", [[], [SharePanel("men", {})], [SharePanel("men", {"one": []})]])
def test_nothing_to_draw_is_refused(panels: list[SharePanel]):
    with pytest.raises(BadInput, match="there is nothing to draw"):
        share_panels(panels)
