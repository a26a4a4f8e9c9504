"""Subjects and attributes of prompts. Oracles: the Attend-and-Excite prompt list, and prompts read by hand."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.errors import BadPrompt
from probe.subjects import find_subjects, spacy_tagger, textblob_tags
from probe.words import read_prompt
from tests.tokenizers import clip_tokenizer

LIST = json.loads((Path(__file__).parent / "data" / "attend_and_excite_prompts.json").read_text())
BY_HAND = {
    "a man wearing a blue hat": "man | blue hat",
    "a teddy bear next to a red bow tie": "teddy bear | red bow tie",
    "the children play in a garden": "children | garden",
    "two cats and three red apples": "cats | red apples",
    "a photo of a large brown bear in the forest": "large brown bear | forest",
    "an astronaut riding a horse on the moon": "astronaut | horse | moon",
    "cat, red balloon": "cat | red balloon",
    "brown bear": "brown bear",
    "a sleeping cat": "sleeping cat",
    "a very large light blue car": "large light blue car",
    "a dog that has a hat": "dog | hat",
    "a painting in the style of van gogh": "painting",
    "a woman is reading a book": "woman | book",
    "a black and white cat": "black white cat",
    "a beautiful, fluffy cat in front of a house": "beautiful fluffy cat | house",
    "an orange and a banana": "orange | banana",
    "a cat on the left of a dog": "cat | dog",
    "a group of people in the background": "people",
    "a (red:1.3) balloon and ((blue)) cars, 4k": "red balloon | blue cars",
    "A BEAR AND A DOG": "BEAR | DOG",
    "a cat and a cat": "cat | cat#2",
    "🐱 and 🐶": "🐱 | 🐶",
    "running fast": "",
    "a cat asleep on a bench": "cat | bench",
    "a bowl full of apples and a dog bigger than a cat": "bowl | apples | dog | cat",
    "a blood orange and a rose petal": "blood orange | rose petal",
    "a dog and no cat": "dog",
    "a cat without a crown next to a red car": "cat | red car",
}


def shown(prompt: str) -> str:
    """Subjects as "attribute head | head"."""
    return " | ".join(" ".join([*(a.text for a in s.attributes), s.label]) for s in find_subjects(prompt))


def run(code: str, environment: dict[str, str] | None = None) -> str:
    """What a fresh interpreter prints."""
    environment = os.environ | (environment or {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_the_list_is_complete() -> None:
    assert len(LIST) == len({row["prompt"] for row in LIST}) == 276


def test_all_276_prompts_of_the_list() -> None:
    expected = [list(zip(row["subjects"], row["attributes"], strict=True)) for row in LIST]
    found = [
        [(s.text, " ".join(a.text for a in s.attributes) or None) for s in find_subjects(row["prompt"])] for row in LIST
    ]
    assert found == expected


def test_positions_of_the_list() -> None:
    """The token positions that the list gives are those of CLIP with its start token at 0."""
    tokenizer = clip_tokenizer()
    sure = [row for row in LIST if all(len(tokenizer.tokenize(word)) == 1 for word in row["prompt"].split())]
    assert len(sure) > 10
    for row in sure:
        prompt = read_prompt(row["prompt"], {"clip": tokenizer})
        assert [prompt.columns(s.label, "clip") for s in find_subjects(row["prompt"])] == [
            (i,) for i in row["positions"]
        ]


@pytest.mark.parametrize(("prompt", "expected"), BY_HAND.items())
def test_by_hand(prompt: str, expected: str) -> None:
    assert shown(prompt) == expected


def test_spans_are_of_the_prompt() -> None:
    (subject,) = find_subjects("the  (Red:1.2)   balloon")
    assert (subject.start, subject.end, subject.text) == (17, 24, "balloon")
    assert [(a.start, a.end, a.text) for a in subject.attributes] == [(6, 9, "Red")]


@pytest.mark.parametrize("prompt", ["", "  \n", None, ["a cat"]])
def test_no_prompt(prompt: object) -> None:
    with pytest.raises(BadPrompt, match=r"the prompt is blank|a prompt is one text"):
        find_subjects(prompt)


@given(st.text(min_size=1).filter(str.strip))
def test_any_text(prompt: str) -> None:
    """Every subject and attribute stands in the prompt, no subject twice, and attributes before their subject."""
    subjects = find_subjects(prompt, tagger=textblob_tags)
    assert len({s.label for s in subjects}) == len(subjects)
    for subject in subjects:
        assert all(prompt[part.start : part.end] == part.text for part in (subject, *subject.attributes))
        assert all(attribute.end <= subject.start for attribute in subject.attributes)


def test_a_tagger_of_ones_own() -> None:
    (subject,) = find_subjects("glorp zeb", tagger=lambda words: ["NN" if word == "glorp" else "RB" for word in words])
    assert subject.text == "glorp"


def test_importing_is_light_and_offline() -> None:
    code = "import sys, probe.subjects; print(sorted({'textblob', 'nltk', 'spacy', 'torch'} & set(sys.modules)))"
    assert run(code) == "[]"


def test_no_corpus_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    assert textblob_tags(["a", "red", "balloon"]) == ["DT", "JJ", "NN"]
    assert not any(tmp_path.iterdir())


def test_spacy_is_used_where_a_model_is_installed(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("en")
    ruler = model.add_pipe("attribute_ruler")
    for word, tag in {"a": "DT", "red": "JJ", "bear": "NN", "sits": "VBZ"}.items():
        ruler.add([[{"LOWER": word}]], {"TAG": tag})
    model.to_disk(tmp_path / "model")
    (tmp_path / "en_tiny").mkdir()
    source = f"import spacy\n\ndef load(**options):\n    return spacy.load({str(tmp_path / 'model')!r}, **options)\n"
    (tmp_path / "en_tiny" / "__init__.py").write_text(source)
    (tmp_path / "en_tiny-1.0.dist-info").mkdir()
    (tmp_path / "en_tiny-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: en_tiny\nVersion: 1.0\n")
    (tmp_path / "en_tiny-1.0.dist-info" / "entry_points.txt").write_text("[spacy_models]\nen_tiny = en_tiny\n")
    code = "from probe.subjects import default_tagger; print(*default_tagger()(['a', 'red', 'bear', 'sits']))"
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = run(code, {"PYTHONPATH": paths})
    assert done == "DT JJ NN VBZ"
    assert spacy_tagger(model)(["red"]) == ["JJ"]
