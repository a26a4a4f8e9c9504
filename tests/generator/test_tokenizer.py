"""The tokenizer: one token for every word of the world, in the class that Stable Diffusion uses."""

import pytest
from transformers import CLIPTokenizer

from probe.generator import tokenizer as module
from probe.generator.world import World
from probe.generator.world import vocabulary as v


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return module.build()


def test_one_token_a_word(tokenizer: CLIPTokenizer):
    words = v.all_words()
    assert len(words) >= 200
    pieces = {word: tokenizer.tokenize(word) for word in words}
    assert pieces == {word: [f"{word}</w>"] for word in words}


def test_captions_take_a_token_a_word_and_come_back(tokenizer: CLIPTokenizer):
    world = World(3)
    for scene in world.scenes(200):
        text = world.caption(scene).text
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert len(ids) == len(text.split()) + 2 <= tokenizer.model_max_length == 77
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_the_end_token_has_the_largest_number(tokenizer: CLIPTokenizer):
    """CLIP reads its text vector at the largest id of a row when the end token is the old default."""
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.bos_token_id == len(tokenizer) - 2


def test_unknown_words_fall_apart_into_letters(tokenizer: CLIPTokenizer):
    pieces = tokenizer.tokenize("zebra")
    assert len(pieces) > 1
    assert "".join(pieces).removesuffix("</w>") == "zebra"


def test_case_and_commas_do_not_matter_to_words(tokenizer: CLIPTokenizer):
    assert tokenizer.tokenize("A Cat, a dog") == ["a</w>", "cat</w>", ",</w>", "a</w>", "dog</w>"]


def test_building_twice_gives_the_same_numbers(tokenizer: CLIPTokenizer):
    assert module.build().get_vocab() == tokenizer.get_vocab()


def test_it_survives_a_folder(tokenizer: CLIPTokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    back = CLIPTokenizer.from_pretrained(tmp_path)
    text = "a royal cat and a red balloon on the grass"
    assert back(text).input_ids == tokenizer(text).input_ids
