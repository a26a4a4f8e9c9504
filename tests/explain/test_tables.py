"""Every table is listed, read the same way, and says how it is recorded."""

import inspect

import numpy as np
import pytest

import probe
from probe.errors import BadInput, NotRecorded
from probe.explain import gradients, roles, statistics
from probe.explain.tables import TABLES, table, tables
from tests.explain.test_roles import with_roles
from tests.factories import make_trace

NEEDS = [each for each in TABLES if each.ask != "probe.record(pipe)" and each.name != "special"]


def test_a_trace_holds_those_that_it_was_recorded_for():
    assert list(tables(make_trace())) == ["overlap", "entropy", "special"]
    found = tables(with_roles())
    assert {"ablation", "patching"} <= set(found)
    assert all(array.ndim in (1, 2) and "step" not in array.dims for array in found.values())
    np.testing.assert_allclose(found["ablation"].sum("site"), 1)  # a word's shares sum to 1
    np.testing.assert_allclose(found["overlap"].values.diagonal(), 1)


def test_every_function_that_makes_a_table_is_listed():
    names = {each.read.__code__.co_names[0] for each in TABLES}
    made = {"token_scores"} | {
        name
        for module in (roles, statistics)
        for name, part in inspect.getmembers(module, inspect.isfunction)
        if part.__module__ == module.__name__ and not name.startswith("_") and name != "by_group"
    }
    assert names == made and hasattr(gradients, "token_scores")


@pytest.mark.parametrize("each", NEEDS, ids=lambda each: each.name)
def test_what_was_not_recorded_is_named(each):
    with pytest.raises(NotRecorded, match="record"):
        each.read(make_trace(), 0)
    if each.inquiry:
        assert f"probe.{each.inquiry}(" in each.ask
        getattr(probe, each.inquiry)(**each.options)


def test_unknown_names_are_answered_with_all():
    with pytest.raises(BadInput, match="no table 'magic'; there are: scores, ablation"):
        table("magic")


def test_an_image_that_was_not_recorded_is_no_empty_list():
    with pytest.raises(NotRecorded, match="image 7 was not recorded; this trace holds image 0"):
        tables(make_trace(), image=7)
