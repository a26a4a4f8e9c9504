"""Where prompts come from: lists, files, templates, and the benchmark by rule."""

import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from probe import Study
from probe.errors import BadInput
from probe.study.prompts import FromFile, Generated, PromptRow, Template

DATA = Path(__file__).parent.parent / "data" / "attend_and_excite_prompts.json"


def test_the_benchmark_by_rule_is_the_published_list():
    published = json.loads(DATA.read_text("utf-8"))
    rows = Generated(generate="attend-and-excite").rows()
    made = [{"prompt": r.prompt, "subjects": r.subjects, "attributes": r.attributes, **r.columns} for r in rows]
    expected = [{name: row[name] for name in ("prompt", "subjects", "attributes", "subset")} for row in published]
    assert json.loads(json.dumps(made)) == expected
    assert Counter(r.columns["subset"] for r in rows) == {
        "animal-animal": 66,
        "animal-object": 144,
        "object-object": 66,
    }


def test_a_part_of_the_benchmark():
    assert len(Generated(generate="attend-and-excite", subsets=("object-object",)).rows()) == 66


def test_the_published_file_is_read_as_it_is():
    rows = FromFile(file=str(DATA), first=5).rows()
    assert (len(rows), rows[0].subjects, rows[0].attributes) == (5, ("cat", "dog"), (None, None))
    assert rows[0].columns == {"subset": "animal-animal", "positions": [2, 5]}


CONTENTS = {
    "p.txt": "a cat\n\n  a dog  \n",
    "p.csv": 'prompt,subjects,attributes,kind\na cat,cat,,x\n"a red dog, and a cat",dog; cat,red;,y\n',
    "p.json": '["a cat", {"prompt": "a dog", "subjects": ["dog"], "kind": "y"}]',
    "p.jsonl": '{"prompt": "a cat"}\n{"prompt": "a dog", "kind": "y"}\n',
    "p.yaml": "- a cat\n- {prompt: a dog, kind: y}\n",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files(name: str, tmp_path: Path):
    (tmp_path / name).write_text(CONTENTS[name], encoding="utf-8")
    first, second = FromFile(file=str(tmp_path / name)).rows()
    assert first.prompt == "a cat"
    assert second.prompt in ("a dog", "a red dog, and a cat")
    if name == "p.csv":
        assert (first.subjects, second.subjects, second.attributes) == (("cat",), ("dog", "cat"), ("red", None))
    assert name == "p.txt" or second.columns == {"kind": "y"}


BROKEN = {
    "p.txt": ("", "holds no list of prompts"),
    "p.csv": ("text\na cat\n", r"line 2 does not fit the header.*needs a column `prompt`"),
    "q.csv": ("prompt\na cat, a dog\n", "line 2 does not fit the header"),
    "r.csv": ('prompt\n"a cat\n', "is not valid CSV"),
    "p.json": ("{", "cannot be read"),
    "q.json": ('{"prompt": "a cat"}', "holds no list of prompts"),
    "r.json": ("[7]", r"prompt 1 of .*r.json cannot be used:.*put it in quotes"),
    "s.json": ('["\\ud800"]', "prompt 1 of .* cannot be used"),
    "p.jsonl": ('{"prompt": "a cat"}\nx\n', "line 2 is not valid JSON"),
    "p.yaml": ("- a: [\n", "is not valid YAML at line"),
    "q.yaml": ("- {prompt: a cat, prompt: a dog}\n", "the key 'prompt' occurs twice"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_clearly(name: str, tmp_path: Path):
    content, message = BROKEN[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match=f"(?s){message}"):
        FromFile(file=str(tmp_path / name)).rows()


def test_a_missing_file_and_one_in_another_encoding(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot read .*No such file.*check the path"):
        FromFile(file=str(tmp_path / "none.txt")).rows()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match="is not UTF-8 .* save it as UTF-8"):
        FromFile(file=str(tmp_path / "latin.txt")).rows()


def test_a_template_is_filled_with_every_combination():
    source = Template(
        template="a {mood} {who}",
        values={"mood": ("happy", "sad"), "who": ("doctor", "pilot")},
        subjects=("{who}",),
        attributes=("{mood}",),
    )
    rows = source.rows()
    assert [row.prompt for row in rows] == [f"a {m} {w}" for m, w in product(("happy", "sad"), ("doctor", "pilot"))]
    assert (rows[0].subjects, rows[0].attributes) == (("doctor",), ("happy",))
    assert rows[3].columns == {"mood": "sad", "who": "pilot"}


def test_a_template_runs_nothing():
    [row] = Template(template="a {who}", values={"who": ("{who.__class__}",)}).rows()
    assert row.prompt == "a {who.__class__}"


def test_a_template_needs_values_for_its_slots():
    with pytest.raises(BadInput, match=r"the slots \['a', 'b'\], values are given for \['a'\]"):
        Study(prompts={"template": "{a} {b}", "values": {"a": ["x"]}})


@pytest.mark.parametrize("slot", ["prompt", "subjects", "attributes"])
def test_a_slot_is_not_called_what_a_row_holds_itself(slot: str):
    """Its values would stand in the place of the prompt that they fill."""
    with pytest.raises(BadInput, match=rf"the slot {{{slot}}} has the name of what each row holds itself; call it oth"):
        Study(prompts={"template": f"a photo of a {{{slot}}}", "values": {slot: ["cat"]}})


def test_rows_of_a_study(tmp_path: Path):
    assert Study(prompts=["a cat"]).rows == (PromptRow(prompt="a cat"),)
    assert len(Study(prompts="attend-and-excite").rows) == 276
    (tmp_path / "p.txt").write_text("a cat\na dog")
    assert len(Study(prompts=str(tmp_path / "p.txt")).rows) == 2
