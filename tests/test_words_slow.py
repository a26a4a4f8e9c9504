"""Tokenizers that do not say which characters a token covers: words counted by hand, and the fast ones as oracle."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from probe.words import Prompt, held, read_negative, read_prompt
from probe.words.slow import offsets, spell
from tests import tokenizers


@pytest.fixture(scope="module")
def chatglm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tokenizers.chatglm_tokenizer(tmp_path_factory.mktemp("chatglm"))


def spelt(prompt: Prompt) -> dict[str, str]:
    """What the tokens of each word cover."""
    return {word.label: "".join(prompt.tokens[i].text for i in word.tokens["e"]) for word in prompt.words}


@pytest.mark.parametrize("text", ["a cat and a dog's ball, 7 bears!", "l'homme au café  naïve", "一只猫和一只狗"])
def test_the_tokens_of_a_word_spell_it(text: str, chatglm: Any):
    prompt = read_prompt(text, {"e": chatglm})
    assert spelt(prompt) == {word.label: word.text for word in prompt.words}
    assert prompt.fallen == {"e": ()}


def test_what_is_around_a_prompt_is_special(chatglm: Any):
    prompt = read_prompt("a cat", {"e": chatglm}, lengths={"e": 12})
    found = [(token.text, token.special) for token in prompt.tokens if token.special != "<padding>"]
    assert found[:3] == [("[gMASK]", "<start>"), ("sop", "<start>"), ("a", None)]
    assert [token.special for token in prompt.tokens].index("<start>") == 12 - len(found)  # padded on the left


def test_words_fall_off_the_end(chatglm: Any):
    whole = read_prompt("a cat and a red balloon", {"e": chatglm})
    cut = read_prompt("a cat and a red balloon", {"e": chatglm}, lengths={"e": len(whole.tokens) - 1})
    assert cut.fallen == {"e": ("balloon",)}


def test_a_blank_text_has_its_marks_alone(chatglm: Any):
    assert [token.special for token in read_negative("", {"e": chatglm}).tokens] == ["<start>"] * 2


def test_a_letter_of_several_tokens_is_covered_by_each():
    prompt = read_prompt("a 猫", {"e": ByT5Tokenizer()})
    assert prompt.words[1].tokens == {"e": (2, 3, 4)}
    assert prompt.tokens[-1].special == "<end>"


def test_a_letter_that_is_unknown_is_covered_by_none():
    said = {"a": "a", "?": "⁇", "b": "b"}
    assert offsets("a 龘 b", ["a", "?", "b"], lambda parts: "".join(said[part] for part in parts)) == [
        (0, 1),
        (0, 0),
        (4, 5),
    ]


def test_other_forms_of_a_letter_are_found(chatglm: Any):
    """SentencePiece reads full-width letters as plain ones."""
    prompt = read_prompt("ａ　ｃａｔ，red", {"e": chatglm})
    assert spelt(prompt) == {"ａ": "ａ", "ｃａｔ": "ｃａｔ", "red": "red"}


@given(st.text(alphabet="abcdog '-éï猫👍🏽\n", max_size=30))
@settings(max_examples=60)
def test_bytes_cover_what_utf8_says(text: str):
    """Of ByT5 a token is a byte, so that it is known which letter each is of."""
    tokenizer = ByT5Tokenizer()
    read = tokenizer(text)
    places = [i for i, letter in enumerate(text) for _ in letter.encode()]
    found = spell(tokenizer, text, read.input_ids, read.attention_mask).offsets[: len(places)]
    for place, (start, end) in zip(places, found, strict=True):
        assert text[place].isspace() or (start, end) == (place, place + 1)


def test_a_processor_holds_a_tokenizer_and_chatglm_holds_none_of_transformers(chatglm: Any):
    class Processor:
        tokenizer = chatglm

    assert held(Processor()) is chatglm
    assert held(chatglm) is chatglm
