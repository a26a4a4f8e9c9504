"""What a study may say, and what it is told when it says something else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import Study
from probe.errors import BadInput
from probe.study.card import _runs

FULL = """
name: neglect
question: Which method brings both subjects back?
prompts:
  - a cat and a dog
  - {prompt: a red car and a blue bowl, subjects: [car, bowl], attributes: [red, blue], subset: two}
seeds: 0-3, 8
models: [menagerie, {source: menagerie-control, label: control}]
interventions:
  - plain
  - {method: AttendAndExcite, subjects: $subjects, max_steps: 25}
explainers: [attention]
scorers: [judge, clip, time]
guidance: [1, 5]
steps: 20
size: 64x128
batch: 4
keep: [pictures, traces]
"""


def test_a_study_is_read_from_yaml(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(FULL)
    study = Study.read(tmp_path / "study.yaml")
    assert (study.name, study.seeds, study.steps, study.guidance) == ("neglect", (0, 1, 2, 3, 8), (20,), (1.0, 5.0))
    assert study.size == (64, 128)
    assert [model.name for model in study.models] == ["menagerie", "control"]
    assert study.interventions[1].settings == {"subjects": "$subjects", "max_steps": 25}
    assert study.rows[1].columns == {"subset": "two"}
    assert study.path == Path("out/neglect")


def test_a_study_survives_json():
    study = Study(prompts=["a cat"], seeds="0-2", interventions=["plain", {"method": "AStar", "subjects": ["cat"]}])
    assert Study(**json.loads(study.model_dump_json())) == study


def test_a_study_is_frozen_and_has_a_schema():
    study = Study(prompts=["a cat"])
    with pytest.raises(ValueError, match="frozen"):
        study.name = "other"
    schema = Study.model_json_schema()
    assert set(schema["properties"]) == set(Study.model_fields)
    assert schema["additionalProperties"] is False
    assert {"type": "string"} in schema["properties"]["seeds"]["anyOf"]


def test_files_and_folders_are_found_beside_the_study(tmp_path: Path):
    (tmp_path / "p.txt").write_text("a cat")
    (tmp_path / "weights").mkdir()
    (tmp_path / "my study.yaml").write_text("prompts: p.txt\nmodels: [weights, {source: weights, label: b}, menagerie]")
    study = Study.read(tmp_path / "my study.yaml")
    assert study.rows[0].prompt == "a cat"
    assert [model.source for model in study.models] == [str(tmp_path / "weights")] * 2 + ["menagerie"]
    assert [model.name for model in study.models] == ["weights", "b", "menagerie"]  # no way to the folder
    assert study.name == "my-study"


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40, unique=True))
def test_seeds_are_read_as_they_are_written(seeds: list[int]):
    assert Study(prompts=["a"], seeds=_runs(seeds)).seeds == tuple(sorted(seeds))
    assert Study(prompts=["a"], seeds=seeds).seeds == tuple(seeds)


REFUSED = {
    "unknown field": ({"seedz": "0-3"}, "seedz: there is no such field; did you mean 'seeds'?"),
    "no prompts": ({"prompts": []}, "prompts: Tuple should have at least 1 item"),
    "no text": ({"prompts": [True]}, r"prompts\[0\]: this is not text: put it in quotes"),
    "empty prompt": ({"prompts": ["a", " "]}, r"prompts\[1\]: the prompt is empty; say what to draw"),
    "odd prompts": ({"prompts": {"x": 1}}, r"prompts: give a list of prompts, \{file: .*\(found \{'x': 1\}\)"),
    "attributes": (
        {"prompts": [{"prompt": "a", "subjects": ["a"], "attributes": []}]},
        "1 subjects and 0 attributes; give one each, null for none",
    ),
    "one seed or many": ({"seeds": 8}, r'8 may mean one seed or that many seeds; write \[8\] or "0-7"'),
    "backwards": ({"seeds": "3-1"}, "'3-1' is not a seed; give numbers from 0"),
    "negative seed": ({"seeds": [-1]}, "'?-1'? is not a seed"),
    "too many seeds": ({"seeds": "0-99999999"}, "is more than 1,000,000 seeds; use fewer"),
    "twice": ({"interventions": ["plain", "plain"]}, "two are called 'plain'; give each its own label"),
    "no steps": ({"steps": 0}, r"steps\[0\]: Input should be greater than 0 \(found 0\)"),
    "size": ({"size": "64"}, "size"),
    "kept": ({"keep": ["maps"]}, "keep.*'pictures' or 'traces'"),
    "name": ({"name": "../x"}, "name: String should match pattern"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_studies_are_refused_clearly(case: str):
    said, message = REFUSED[case]
    with pytest.raises(BadInput, match=f"(?s)the study cannot be used:.*{message}"):
        Study(**{"prompts": ["a cat"], **said})


def test_prompts_are_needed():
    with pytest.raises(BadInput, match="prompts: this is needed"):
        Study(seeds="0-3")


FILES = {
    "a list": ("- a cat\n", "holds no study; expected fields"),
    "a text": ("cat", "holds no study"),
    "odd keys": ("1: 2\nprompts: [a]\n", "cannot be used .*its fields are: name, question, prompts"),
    "twice": ("prompts: [a]\nseeds: 0-1\nseeds: 0-2\n", "not valid YAML at line 3.*the key 'seeds' occurs twice"),
    "indented": ("prompts:\n  - a\n - b\n", "not valid YAML at line 3, column 2"),
    "a python object": ("prompts: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_are_refused_clearly(case: str, tmp_path: Path):
    content, message = FILES[case]
    (tmp_path / "study.yaml").write_text(content)
    with pytest.raises(BadInput, match=f"(?s){message}"):
        Study.read(tmp_path / "study.yaml")


def test_a_folder_without_a_study(tmp_path: Path):
    with pytest.raises(BadInput, match="holds no resolved.json, so no study was run there"):
        Study.open(tmp_path)
