"""The registry: no explainer without its line, one call for all, and every line tells what to record."""

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import get_type_hints

import pytest

import probe
from probe import explain
from probe.attach.asked.inquiry import Inquiry
from probe.errors import BadInput, NotRecorded
from probe.explain import METHODS, Method
from probe.heatmap import Heatmap
from tests.factories import make_trace


def explainers() -> dict[str, Callable[..., Heatmap]]:
    """Every public function in a file of the room that takes a trace and a word and returns a heatmap."""
    files = [import_module(f"{explain.__name__}.{part.name}") for part in pkgutil.iter_modules(explain.__path__)]
    own = [(f, name) for f in files for name, made in vars(f).items() if getattr(made, "__module__", "") == f.__name__]
    functions = {name: getattr(f, name) for f, name in own if inspect.isfunction(getattr(f, name))}
    return {name: f for name, f in functions.items() if name[0] != "_" and get_type_hints(f).get("return") is Heatmap}


def test_every_explainer_has_its_line_and_every_line_its_explainer():
    assert set(explainers()) == {method.name for method in METHODS}
    assert len({method.name for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_all_are_called_the_same_way(method: Method):
    first, second, *rest = inspect.signature(method.explain).parameters.values()
    assert (first.name, second.name) == ("trace", "word")
    assert {p.kind for p in rest} == {inspect.Parameter.KEYWORD_ONLY}
    defaults = {p.name: p.default for p in rest}
    assert defaults["steps"] is None and defaults["image"] == 0 and defaults["frame"] is None
    assert inspect.Parameter.empty not in defaults.values()
    assert inspect.signature(method.explain, eval_str=True).return_annotation is Heatmap


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_each_says_what_it_shows_and_what_it_cannot(method: Method):
    for sentence in (method.shows, method.cannot):
        assert len(sentence) > 30 and sentence[0].islower() and not sentence.endswith(".")
    home = import_module(f"probe.explain.{method.name}").__doc__ or ""
    assert "not" in home or "nothing" in home  # its file says so at more length


@pytest.mark.parametrize("method", [m for m in METHODS if m.record], ids=lambda method: method.name)
def test_what_has_to_be_recorded_is_public_and_named_by_the_error(method: Method):
    assert issubclass(getattr(probe, str(method.record)), Inquiry)
    with pytest.raises(NotRecorded, match=rf"probe\.{method.record}\("):
        method.explain(make_trace(), "cat")


def test_a_method_is_found_by_its_name():
    assert explain.by("attention").explain is probe.attention
    assert explain.by("attention").ask == "probe.record(pipe)"
    assert explain.by("relevancy").ask == "probe.record(pipe, explain=[probe.Relevancy()])"
    assert explain.by("rollout").ask == "probe.record(pipe, relations=['image->text', 'image->image:low-rank'])"
    with pytest.raises(BadInput, match="no explainer 'atention'; there are: attention, relevancy"):
        explain.by("atention")


def test_held_are_those_that_the_trace_was_recorded_for():
    found = explain.held(make_trace(), "cat")
    assert found["attention"].values.equals(probe.attention(make_trace(), "cat").values)
    assert "relevancy" not in found
    assert explain.held(make_trace(), "zebra") == {}


def test_what_several_methods_need_is_asked_for_once():
    assert explain.needs(["attention", "daam"]) == ([], ["image->text"])
    found = explain.needs(["rollout", "relevancy", "leave_one_out"])
    assert found == (["Relevancy", "LeaveOneOut"], ["image->text", "image->image:low-rank"])
