"""Nursing in figures and in the report: the numbers of the log, both pictures, and words that stay words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from probe.errors import BadInput, NotRecorded
from probe.show import Story, before_after, nursing_curves, render_report
from probe.trace import Trace
from tests.factories import make_trace
from tests.show.hostile import WORDS
from tests.show.test_render import clipped
from tests.show.test_report import Page


def entry(step: int, losses: list[float], **more: Any) -> dict[str, Any]:
    subjects = [{"cat": 1 - loss, "balloon": 1.0} for loss in losses]
    made = {"method": "AttendAndExcite", "step": step, "image": 0, "losses": losses, "subjects": subjects}
    return made | {"shift": 2.0, "norm": 8.0} | more


LOG = [entry(0, [0.9, 0.7, 0.5]), entry(1, [0.4], shift=1.0)]


def nursed(log: list[dict[str, Any]] = LOG, **options: Any) -> Trace:
    return replace(make_trace(**options), extra={"nursing": log})


def test_iterations_lie_between_their_step_and_the_next():
    figure = nursing_curves(nursed())
    loss, each, moved = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [0.9, 0.7, 0.5, 0.4])
    assert [line.get_label() for line in each.lines] == ["cat", "balloon"]
    np.testing.assert_allclose(each.lines[0].get_ydata(), [0.1, 0.3, 0.5, 0.6])
    np.testing.assert_allclose(moved.lines[0].get_ydata(), [0.25, 0.125])
    assert moved.get_ylabel() == "share of their norm"
    assert clipped(figure) == []


def test_only_this_pictures_entries_count():
    log = [*LOG, entry(0, [0.1], image=1), {"method": "AttendAndExcite", "step": 0, "image": 0, "search": [[0.3]]}]
    assert len(nursing_curves(nursed(log)).axes[0].lines[0].get_ydata()) == 4
    assert len(nursing_curves(nursed(log), image=1).axes[0].lines[0].get_ydata()) == 1


def test_shifts_without_a_norm_are_in_units_of_the_latents():
    moved = nursing_curves(nursed([entry(0, [0.5], norm=None)])).axes[2]
    assert (moved.get_ylabel(), moved.lines[0].get_ydata()[0]) == ("latents", 2.0)


def test_a_run_without_nursing_has_no_curves():
    with pytest.raises(NotRecorded, match=r"holds no nursing; record it with probe.record\(pipe, interventions="):
        nursing_curves(make_trace())


def test_before_and_after_have_one_scale_and_the_methods_name():
    figure = before_after(make_trace(seed=1), nursed())
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(pictures) >= 6  # two rows of the picture and two words
    assert [ax.get_ylabel() for ax in figure.axes[:6] if ax.get_ylabel()] == ["plain", "AttendAndExcite"]
    assert [ax.get_title() for ax in figure.axes[1:3]] == ["cat", "balloon"]
    assert clipped(figure) == []


def test_a_chosen_word_and_runs_of_two_prompts():
    assert [ax.get_title() for ax in before_after(make_trace(), nursed(), ["balloon"]).axes[:2]] == ["", "balloon"]
    with pytest.raises(BadInput, match="'a cat and a balloon' and 'a dog and a balloon' are two prompts"):
        before_after(make_trace(), make_trace(words=("dog", "balloon")))


def test_the_report_tells_the_story():
    story = Story(["cat: present"], ["cat: neglected <b>now</b>"], make_trace(seed=1))
    page = Page(render_report(nursed(), story=story))
    assert "What became of the subjects" in page.texts["h2"]
    assert page.texts["h3"][1:3] == ["Without nursing", "With AttendAndExcite"]
    assert page.texts["li"][:2] == ["cat: neglected <b>now</b>", "cat: present"]
    figures = [image for image in page.all("img") if str(image["src"]).startswith("data:image/svg+xml")]
    assert [str(image["alt"])[:28] for image in figures] == [
        "The picture before and after",
        "Loss, subjects and shifts of",
    ]
    assert all("style" not in image for image in figures)  # the page's policy allows no style of its own


def test_a_report_without_a_story_has_no_such_section():
    assert "What became of the subjects" not in render_report(make_trace())
    assert "The latents were moved by AttendAndExcite" in render_report(nursed())


def test_hostile_words_fit_in_the_figures():
    words = list(WORDS)[:3]
    log = [{**LOG[0], "subjects": [dict.fromkeys(words, 0.5)] * 3}]
    assert clipped(nursing_curves(nursed(log, words=words))) == []
    assert clipped(before_after(make_trace(words=words), nursed(log, words=words))) == []
