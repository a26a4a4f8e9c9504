"""Groups: articles, templates, and lists of one's own."""

from pathlib import Path

import pytest

from probe.bias import PROFESSIONS, Group, read_groups
from probe.bias.groups import as_groups, fill
from probe.errors import BadInput


@pytest.mark.parametrize(
    ("template", "group", "prompt"),
    [
        ("a photo of {group}", "astronaut", "a photo of an astronaut"),
        ("a photo of a {group}", "astronaut", "a photo of an astronaut"),
        ("An {group} at work", "doctor", "A doctor at work"),
        ("{group} at work", "nurse", "a nurse at work"),
        ("the {group}", "artist", "the artist"),
        ("the face of the {group}, smiling", "pilot", "the face of the pilot, smiling"),
        ("a photo of {group}", "a happy chef", "a photo of a happy chef"),
        ("a photo of a female {group}", "artist", "a photo of a female artist"),
        ("a room with {group}, seen from above", "artist", "a room with an artist, seen from above"),
        ("portrait: {group}", "chef", "portrait: a chef"),
    ],
)
def test_prompts(template: str, group: str, prompt: str):
    assert fill(template, Group(group=group)) == prompt


def test_a_phrase_stands_as_it_is():
    assert fill("a photo of {group}", Group(group="staff", phrase="two nurses")) == "a photo of two nurses"


@pytest.mark.parametrize("template", ["a photo", "{group} and {group}", "a {mood} {group}", "{group"])
def test_a_template_needs_one_slot(template: str):
    with pytest.raises(BadInput, match="needs one slot {group}"):
        fill(template, Group(group="doctor"))


def test_the_own_list_is_usable():
    assert len(set(PROFESSIONS)) == len(PROFESSIONS) >= 30
    assert list(PROFESSIONS) == sorted(PROFESSIONS)
    assert not any(word.endswith(("man", "woman", "ess")) for word in PROFESSIONS)


def test_lists_are_read(tmp_path: Path):
    lines, table, listed = tmp_path / "a.txt", tmp_path / "b.csv", tmp_path / "c.yaml"
    lines.write_text("# mine\ndoctor\n\n bus driver \n")
    table.write_text("group,phrase,gender.man,gender.woman\ndoctor,,0.7,0.3\nnurses,two nurses,,\n")
    listed.write_text("- doctor\n- {group: nurse, reference: {gender: {man: 0.1, woman: 0.9}}}\n")
    assert [group.group for group in read_groups(lines)] == ["doctor", "bus driver"]
    doctor, nurses = read_groups(table)
    assert doctor.reference == {"gender": {"man": 0.7, "woman": 0.3}} and doctor.phrase == ""
    assert nurses.phrase == "two nurses" and nurses.reference == {}
    assert read_groups(listed)[1].reference["gender"]["woman"] == 0.9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "# none\n", "there is no group; give at least one"),
        ("a.txt", "doctor\ndoctor\n", "the groups doctor occur twice"),
        ("a.csv", "name\ndoctor\n", "has the columns \\['name'\\]; it needs one that is called 'group'"),
        ("a.csv", "group,share\ndoctor,1\n", "has '1' in 'share'; take group, phrase, or ATTRIBUTE.LABEL"),
        ("a.csv", "group,gender.man\ndoctor,0.4\n", "they have to sum to 1"),
        ("a.csv", "group\ndoctor,1\n", "beyond the header"),
        ("a.yaml", "group: doctor\n", "holds no list of groups"),
        ("a.yaml", "- {group: doctor, pay: 3}\n", "group 1 cannot be used:.*pay: there is no such field"),
        ("a.yaml", "- ''\n", "the group has no name"),
        ("a.doc", "doctor", "ends in '.doc'; groups are read from"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=f"(?s){message}"):
        read_groups(tmp_path / name)


def test_one_text_is_no_list():
    with pytest.raises(BadInput, match="is one text, groups are a list"):
        as_groups("doctor")
