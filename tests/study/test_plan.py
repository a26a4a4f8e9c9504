"""Jobs and their keys: stable, independent of order, and different for whatever decides the result."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import Study
from probe.errors import BadInput, OverBudget
from probe.study.plan import attribute_labels, plan, references
from probe.study.prompts import PromptRow

BASE: dict[str, Any] = {
    "prompts": ["a cat and a dog", {"prompt": "a red car", "subjects": ["car"], "attributes": ["red"]}],
    "seeds": "0-1",
    "models": [{"source": "m", "digest": "d"}],
    "interventions": ["plain", {"method": "AttendAndExcite", "subjects": "$subjects"}],
    "scorers": ["time", "clip"],
    "guidance": [1, 5],
    "steps": 20,
}


def keys(**changes: Any) -> set[str]:
    return {job.key for job in plan(Study(**BASE | changes))}


def test_keys_never_change():
    """A key that changed would make every finished job of every study be done again: raise SCHEMA if it must."""
    first, *_ = plan(Study(**BASE))
    assert first.key == "6921a1cf8c09287be92627473b5f2765"
    assert len(keys()) == 2 * 2 * 2 * 2


def test_jobs_are_every_combination_once():
    jobs = plan(Study(**BASE | {"prompts": ["a", "b", "a"]}))
    assert len({(j.row.prompt, j.seed, j.method.name, j.guidance) for j in jobs}) == len(jobs) == 2 * 2 * 2 * 2


def test_models_come_one_after_the_other():
    jobs = plan(Study(**BASE | {"models": ["m", "n"]}))
    assert [job.model.source for job in jobs] == ["m"] * 16 + ["n"] * 16


def test_in_the_order_of_seeds_every_setting_has_a_seed_before_the_next():
    jobs = plan(Study(**BASE | {"models": ["m", "n"], "seeds": [5, 2], "order": "seeds"}))
    assert [(job.model.source, job.seed) for job in jobs] == [(m, s) for m in "mn" for s in (5, 2) for _ in range(8)]
    once = [(job.guidance, job.row.prompt, job.method.name) for job in jobs[:8]]
    assert once == [(job.guidance, job.row.prompt, job.method.name) for job in jobs[8:16]] and len(set(once)) == 8


SAME = {
    "the order of the work": {"order": "seeds"},
    "the order of prompts": {"prompts": BASE["prompts"][::-1]},
    "the order of seeds": {"seeds": [1, 0]},
    "the order of methods": {"interventions": BASE["interventions"][::-1]},
    "the order of scorers": {"scorers": ["clip", "time"]},
    "the order of guidance": {"guidance": [5.0, 1.0]},
    "labels": {"models": [{"source": "elsewhere/m", "digest": "d", "label": "mine"}]},
    "what is kept": {"keep": ["pictures", "traces"]},
    "name, folder, question and batch": {"name": "x", "folder": "y", "question": "z", "batch": 7},
    "further columns": {"prompts": [{"prompt": "a cat and a dog", "subset": "x"}, BASE["prompts"][1]]},
}


@pytest.mark.parametrize("what", SAME)
def test_keys_do_not_depend_on(what: str):
    assert keys(**SAME[what]) == keys()


def test_the_guidance_of_a_study_wins_over_that_of_a_model():
    guided = {"source": "m", "digest": "d", "guidance": 5}
    assert keys(models=[guided]) == keys()
    assert keys(models=[guided], guidance=None) == keys(guidance=[5])
    assert keys(models=[guided], guidance=None).isdisjoint(keys(guidance=None))
    assert {job.guidance for job in plan(Study(**BASE | {"models": [guided, "n"], "guidance": None}))} == {5, None}


OTHER = {
    "prompt": {"prompts": ["a cat and a frog", "a blue car"]},
    "subjects": {"prompts": [{"prompt": "a cat and a dog", "subjects": ["cat"]}, "a red car"]},
    "seeds": {"seeds": "2-3"},
    "weights": {"models": [{"source": "m", "digest": "e"}]},
    "scorers": {"scorers": ["time"]},
    "a scorer's settings": {"scorers": ["time", {"method": "clip", "templates": ["{}"]}]},
    "explainers": {"explainers": ["attention"]},
    "steps": {"steps": 21},
    "guidance": {"guidance": [2, 3]},
    "size": {"size": "64x64"},
    "width and height": {"size": "64x96"},
    "negative": {"negative": "blurred"},
    "scheduler": {"scheduler": "EulerDiscreteScheduler"},
}


def test_keys_depend_on_whatever_decides_the_result():
    found = [keys(), *(keys(**change) for change in OTHER.values())]
    assert len(set.union(*found)) == sum(map(len, found))


def test_what_a_model_takes_of_itself_decides_nothing_when_it_is_named():
    own = {"steps": 50, "size": (64, 96), "scheduler": "DDIMScheduler", "negative": ""}
    said = {"steps": 50, "size": "64x96", "scheduler": "DDIMScheduler", "negative": ""}
    model = {"models": [{"source": "m", "digest": "d", "own": own}]}
    bare = keys(**model, steps=None)
    assert all(keys(**{"steps": None, name: value}, **model) == bare for name, value in said.items())
    assert keys(**model, **said) == bare == keys(steps=50)
    others = {"steps": 49, "size": "96x64", "scheduler": "PNDMScheduler", "negative": "a dog"}
    assert all(keys(**{"steps": None, name: value}, **model).isdisjoint(bare) for name, value in others.items())


def test_only_the_jobs_of_a_method_depend_on_its_settings():
    other = keys(interventions=["plain", {"method": "AttendAndExcite", "subjects": "$subjects", "max_steps": 3}])
    assert len(other & keys()) == len(other) / 2


@settings(max_examples=30)
@given(st.permutations(["a cat", "a dog", "a frog"]), st.permutations([0, 1, 2, 3]), st.data())
def test_a_study_that_grows_keeps_its_jobs(prompts: list[str], seeds: list[int], data: st.DataObject):
    some = data.draw(st.lists(st.sampled_from(prompts), min_size=1, unique=True))
    few = data.draw(st.lists(st.sampled_from(seeds), min_size=1, unique=True))
    assert keys(prompts=some, seeds=few) <= keys(prompts=prompts, seeds=seeds)
    assert len(keys(prompts=some, seeds=few)) == len(some) * len(few) * 4


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_two_prompts_have_two_keys(one: str, other: str):
    assert (keys(prompts=[one]) == keys(prompts=[other])) == (one == other)


def test_settings_stand_for_what_the_prompt_has():
    row = PromptRow(prompt="a red car and a red bow", subjects=("car", "bow"), attributes=("red", "red"), boxes=[1, 2])
    assert references(row) == {
        "subjects": ["car", "bow"],
        "attributes": {"car": "red", "bow": "red#2"},
        "bindings": {"car": ["red"], "bow": ["red#2"]},
        "groups": [["red", "car"], ["red#2", "bow"]],
        "boxes": [1, 2],
    }
    asked = {"method": "X", "a": "$boxes", "b": {"c": ["$subjects", 1]}, "d": "no $subjects"}
    [job] = plan(Study(prompts=[row], interventions=[asked]))
    assert job.method.settings == {"a": [1, 2], "b": {"c": [["car", "bow"], 1]}, "d": "no $subjects"}


def test_attributes_without_a_place_in_the_prompt_stay_as_they_are():
    row = PromptRow(prompt="a car", subjects=("car", "bow"), attributes=("red", None))
    assert attribute_labels(row) == ["red", None]
    assert attribute_labels(PromptRow(prompt="a car", subjects=("car",))) == [None]


def test_a_setting_that_stands_for_nothing():
    with pytest.raises(BadInput, match=r"'\$boxes' stands for nothing in the prompt 'a cat'; it has \$subjects, "):
        plan(Study(prompts=["a cat"], interventions=[{"method": "BoxDiff", "boxes": "$boxes"}]))


def test_too_many_jobs():
    with pytest.raises(OverBudget, match="1 x 1 x 1 x 2 x 1 x 600000 are 1,200,000 jobs, at most 1,000,000"):
        plan(Study(prompts=["a", "b"], seeds="0-599999"))


def test_ten_thousand_jobs_open_in_less_than_two_seconds(tmp_path):
    study = Study(prompts=[f"a cat number {i}" for i in range(625)], seeds="0-7", interventions=BASE["interventions"])
    (tmp_path / "resolved.json").write_text(json.dumps(study.model_dump(mode="json")))
    began = time.process_time()
    assert len(plan(Study.open(tmp_path))) == 10_000
    assert time.process_time() - began < 2
