"""Arguments of a recording: what cannot be used is said by its name, as it was found, with an example of what can."""

import re
from typing import Any

import numpy as np
import pytest

import probe
from probe.attach.arguments import shown
from probe.errors import BadInput, NotAPipeline
from tests import pipelines

STEPS = r"steps=[0, 10, -1]"
HEADS = r"heads=[0, 3]"
LAYERS = r"text_states=[0, 6, -1]"
WORDS = r"words=['cat', 'red']"
CELLS = r"cells=[(0.5, 0.5), (0.1, 0.9)]"
WRONG: list[tuple[str, Any, str]] = [
    ("words", [None], WORDS),
    ("words", ["cat", 3], WORDS),
    ("words", 3, WORDS),
    ("sites", 3, "sites=['up_blocks']"),
    ("sites", [3], "sites=['up_blocks']"),
    ("branches", None, "branches=['cond', 'uncond']"),
    ("branches", [None], "branches=['cond', 'uncond']"),
    ("steps", "all", STEPS),
    ("steps", 1.5, STEPS),
    ("steps", [0.7], STEPS),
    ("steps", True, STEPS),
    ("steps", slice(0, 2, 0), STEPS),
    ("steps", slice(0.5, 2), STEPS),
    ("heads", 1.5, HEADS),
    ("heads", ["a"], HEADS),
    ("heads", [1.0], HEADS),
    ("heads", True, HEADS),
    ("heads", "some", HEADS),
    ("groups", 1.5, "groups=50"),
    ("groups", "3", "groups=50"),
    ("groups", None, "groups=50"),
    ("budget", "2GiB", "budget=2 * 2**30"),
    ("budget", None, "budget=2 * 2**30"),
    ("budget", -1, "budget=2 * 2**30"),
    ("budget", float("nan"), "budget=2 * 2**30"),
    ("wait", "long", "wait=30"),
    ("wait", -1, "wait=30"),
    ("relations", None, "relations=['image->text', 'text->image']"),
    ("relations", [3], "relations=['image->text', 'text->image']"),
    ("cells", 0.5, CELLS),
    ("cells", "ab", CELLS),
    ("cells", [(0.5, 0.2, 0.1)], CELLS),
    ("cells", [(0.5, None)], CELLS),
    ("modules", 3, "modules=['mid_block', '*.ff']"),
    ("modules", [3], "modules=['mid_block', '*.ff']"),
    ("text_states", 3, LAYERS),
    ("text_states", "all", LAYERS),
    ("text_states", [0.5], LAYERS),
    ("text_states", None, LAYERS),
    ("interventions", [3], "interventions=[probe.nurse.AttendAndExcite("),
    ("interventions", probe.nurse.AttendAndExcite, "interventions=[probe.nurse.AttendAndExcite("),
    ("interventions", None, "interventions=[probe.nurse.AttendAndExcite("),
    ("explain", ["relevancy"], "explain=[probe.LeaveOneOut("),
    ("explain", "relevancy", "explain=[probe.LeaveOneOut("),
]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return pipelines.pipeline("sd1")


@pytest.mark.parametrize(("name", "value", "example"), WRONG)
def test_what_cannot_be_used_is_said_with_an_example(pipe: Any, name: str, value: Any, example: str):
    said = re.escape(f"{name}={shown(value)}: expected ") + ".*" + re.escape(example)
    with pytest.raises(BadInput, match=said):
        probe.record(pipe, **{name: value})


def asked(pipe: Any, **options: Any) -> Any:
    return probe.record(pipe, **options)._request


ALONE: list[tuple[str, Any]] = [
    ("interventions", probe.nurse.AttendAndExcite(subjects=("cat",))),
    ("explain", probe.LeaveOneOut(steps=(0,))),
    ("relations", "image->image:rows"),
    ("cells", (0.1, 0.9)),
    ("modules", "mid_block"),
    ("branches", "uncond"),
    ("steps", 1),
    ("heads", 1),
]


@pytest.mark.parametrize(("name", "value"), ALONE)
def test_one_alone_is_a_list_of_one(pipe: Any, name: str, value: Any):
    assert asked(pipe, **{name: value}) == asked(pipe, **{name: [value]}) != asked(pipe)


def test_numbers_of_numpy_are_numbers(pipe: Any):
    given = {"steps": np.arange(2), "heads": np.int64(1), "text_states": np.array([0, 1]), "budget": 1e9}
    assert asked(pipe, **given) == asked(pipe, steps=[0, 1], heads=1, text_states=[0, 1], budget=10**9)
    cells = asked(pipe, cells=np.array([[0.1, 0.9], [0.5, 0.5]])).related
    assert cells == asked(pipe, cells=[(0.1, 0.9), (0.5, 0.5)]).related


def test_what_is_no_pipeline_is_refused(pipe: Any):
    for thing, said in ((None, "is None"), ("owner/name", "is 'owner/name', a name"), (pipe.unet, "UNet2DCondition")):
        with pytest.raises(NotAPipeline, match=rf"{said}.*; expected a pipeline of diffusers, loaded: .*probe\.load"):
            probe.record(thing)


def test_what_is_shown_stays_short():
    assert shown("cat") == "'cat'" and shown([0, 1]) == "[0, 1]"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert all(len(shown(value)) < 120 for value in (list(range(5000)), "x" * 5000, np.zeros(500), 10**400))
