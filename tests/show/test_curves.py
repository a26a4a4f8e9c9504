"""Curves over steps: the numbers of the trace, in plain words."""

import numpy as np
import pytest

from probe.errors import NotRecorded
from probe.explain.attention import curve
from probe.show import guidance_curve, has_guidance, word_curves
from probe.trace import Trace
from tests.factories import make_trace
from tests.show.hostile import WORDS
from tests.show.test_render import clipped, without


def test_guidance_has_its_norm_above_and_its_cosines_below():
    trace = make_trace(steps=10)
    figure = guidance_curve(trace)
    pull, turn = figure.axes
    record = trace.node("guidance").isel(image=0)
    np.testing.assert_array_equal(pull.lines[0].get_ydata(), record["difference_norm"])
    assert [line.get_label() for line in turn.lines] == ["with the step before", "with the last step"]
    np.testing.assert_array_equal(turn.lines[1].get_ydata(), record["cosine_final"])
    assert pull.get_title(loc="left") == "How hard the prompt pulls"
    assert turn.get_title(loc="left") == "Does the pull keep its direction?"
    assert turn.get_xlabel() == "denoising step"
    assert turn.get_ylim() == (-0.02, 1.05)
    assert clipped(figure) == []


def test_opposite_directions_stay_in_sight():
    trace = make_trace(steps=3)
    trace.node("guidance")["cosine_previous"].values[2] = -0.8
    assert guidance_curve(trace).axes[1].get_ylim() == (-1.05, 1.05)


def test_curves_of_one_step_are_drawn():
    trace = make_trace(steps=1)
    for figure in (guidance_curve(trace), word_curves(trace)):
        assert clipped(figure) == []
        assert figure.axes[0].lines[0].get_marker() == "o"


def test_without_guidance_the_trace_says_what_it_holds():
    with pytest.raises(NotRecorded, match=r"holds no 'guidance'; it holds .*/attention"):
        guidance_curve(without(make_trace(), "guidance"))


def test_a_run_with_one_branch_has_no_curve():
    assert has_guidance(make_trace())
    assert not has_guidance(with_one_branch())
    assert not has_guidance(without(make_trace(), "guidance"))
    with pytest.raises(NotRecorded, match="had no branch without the prompt"):
        guidance_curve(with_one_branch())


def with_one_branch() -> Trace:
    """As a distilled model leaves it: norms of the one prediction, and no difference."""
    trace = make_trace()
    trace.tree["guidance"] = trace.node("guidance")[["cond_norm", "guided_norm"]]
    return trace


def test_word_curves_are_the_mean_and_the_strongest_cell():
    trace = make_trace(steps=5)
    mean, most = word_curves(trace, ["balloon"]).axes
    expected = curve(trace, "balloon")
    np.testing.assert_allclose(np.asarray(mean.lines[0].get_ydata()), expected.sel(statistic="mean"), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(most.lines[0].get_ydata()), expected.sel(statistic="max"), rtol=1e-5)


def test_no_two_curves_look_the_same():
    figure = word_curves(make_trace(words=tuple("bcdefghi")))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 8
    assert clipped(figure) == []


def test_hostile_words_are_labels():
    figure = word_curves(make_trace(words=WORDS[:6]))
    assert clipped(figure) == []
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "$x$"
