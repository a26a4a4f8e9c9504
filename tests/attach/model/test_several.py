"""Denoisers that mix the texts of several encoders: letters to be drawn, a picture before the text, layers by turns."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

import probe
from probe.attach.text.hearing import Heard
from probe.attach.text.quoting import letters, quoted
from probe.errors import BadInput, NoSuchWord, RecordingError
from probe.intervention import Intervention
from probe.nurse import AttendAndExcite, PromptSchedule
from tests import pipelines
from tests.attach.looking import checking
from tests.attach.model.test_families import keys, moved, without_refiners
from tests.fingerprint import hooks, modules_of
from tests.pipelines import parts, several

SAID = 'a red dog says "Hi, cat"'
LETTERS = ByT5Tokenizer(extra_ids=0)
MARKS = ("''", '""', "‘’", "“”")


def heard(text: str, length: int = 40) -> Heard:
    """What ByT5 reads of a text that a pipeline made."""
    read = LETTERS(text, padding="max_length", max_length=length, truncation=True)
    return Heard("text_encoder_2", tuple(read.input_ids), tuple(map(bool, read.attention_mask)))


# Letters


def placed(text: str, told: str, length: int = 40) -> list[tuple[int, str]]:
    """Position and text of every letter of a prompt in what a pipeline told ByT5."""
    both = letters(text, heard(told, length), LETTERS, MARKS)
    assert both is not None
    return [(token.index, token.text) for token in both[1] if token.special is None]


def test_quoted_parts_are_found_whatever_the_marks():
    text = """a 'b' "c d" “e” and ‘f’, and "" is empty"""
    assert [text[slice(*span)] for span in quoted(text, MARKS)] == ["b", "c d", "", "f", "e"]
    assert [text[slice(*span)] for span in quoted(text, ('""',))] == ["c d", ""]


def test_letters_are_characters_of_the_prompt_and_all_around_is_special():
    both = letters(SAID, heard('Text "Hi, cat". '), LETTERS, MARKS)
    assert both is not None and len(both[1]) == 40
    spelt = [token for token in both[1] if token.special is None]
    assert "".join(token.text for token in spelt) == "".join(token.text for token in both[0]) == "Hi, cat"
    assert [token.index for token in spelt] == list(range(6, 13))
    assert all(SAID[token.start : token.end] == token.text for token in spelt)
    around = [token.special for token in both[1] if token.special]
    assert around == ["<start>"] * 6 + ["<end>"] * 4 + ["<padding>"] * 23


def test_bytes_of_a_character_are_that_character():
    assert [piece for _, piece in placed("a sign “é猫”", 'Text "é猫". ')] == ["é"] * 2 + ["猫"] * 3


@pytest.mark.parametrize("part", ["T", "Text", "x", ".", "e"])
def test_letters_are_not_those_of_the_text_around_them(part: str):
    assert placed(f'"{part}"', f'Text "{part}". ') == list(enumerate(part, 6))
    assert placed(f"'a' and '{part}'", f'Text "a". Text "{part}". ')[1:] == list(enumerate(part, 16))


def test_parts_that_are_equal_have_places_of_their_own_or_one_if_they_are_said_once():
    assert placed("'no' 'no'", 'Text "no". Text "no". ') == [(6, "n"), (7, "o"), (17, "n"), (18, "o")]
    both = letters('"no" "no"', heard('Text "no". '), LETTERS, MARKS)
    assert both is not None
    assert [token.start for token in both[1] if token.special is None] == [1, 2]
    assert len(both[0]) == 2  # nothing was cut off


def test_of_letters_that_are_cut_off_the_first_are_there():
    both = letters('"abcdefghij"', heard('Text "abcdefghij". ', 12), LETTERS, MARKS)
    assert both is not None
    assert "".join(token.text for token in both[1] if token.special is None) == "abcde"
    assert "".join(token.text for token in both[0]) == "abcdefghij"


def test_empty_marks_have_a_row_without_letters():
    both = letters('an empty sign ""', heard('Text "". '), LETTERS, MARKS)
    assert both is not None and both[0] == ()
    assert {token.special for token in both[1]} == {"<start>", "<padding>"}


def test_a_row_without_the_letters_is_of_another_prompt():
    assert letters('"dog"', heard('Text "cat". '), LETTERS, MARKS) is None
    assert letters("a dog", heard('Text "cat". '), LETTERS, MARKS) is None
    assert letters("rock 'n' roll", heard('Text "Open". '), LETTERS, ('""', "“”")) is None


# Columns


@pytest.mark.parametrize("family", ["hunyuan_image", "hunyuan_video15"])
@pytest.mark.parametrize("encoder", ["text_encoder", "text_encoder_2"])
def test_the_columns_of_letters_are_those_that_their_state_moves(family: str, encoder: str):
    pipe: Any = pipelines.load(family)
    without_refiners(pipe)
    word, run = f"cat@{encoder}", partial(pipelines.run, pipe, family, output_type="latent", prompt=SAID)
    before, columns = keys(pipe, word, run)
    tokenizer, told = (pipe.tokenizer, ("cat", " cat")) if encoder == "text_encoder" else (LETTERS, ("cat",))
    spellings = [tokenizer(text, add_special_tokens=False).input_ids for text in told]
    assert moved(pipe, encoder, spellings, before, run) == set(columns)


def test_prompts_with_letters_and_without_in_one_call_read_as_each_alone():
    pipe: Any = pipelines.load("hunyuan_image")

    def maps(prompts: list[str], seeds: list[int], word: str) -> np.ndarray:
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds]
        call: dict[str, Any] = several.FAMILIES["hunyuan_image"].call | {"output_type": "latent", "prompt": prompts}
        call |= {"negative_prompt": ["a bear"] * len(prompts)}
        with probe.record(pipe, [word]) as recording:
            pipe(**call, generator=drawn)
        found = recording.trace.attention_nodes()[0]["attention"].sel(word=word, branch="cond").isel(step=0)
        return found.isel(image=seeds.index(1)).values

    for pair in ([SAID, "a cat"], ["a cat", SAID]):
        together = maps(pair, [0, 1], "cat")
        np.testing.assert_allclose(together, maps([pair[1]], [1], "cat"), rtol=1e-4, atol=1e-6)


def test_letters_that_no_prompt_has_are_an_error():
    pipe: Any = pipelines.load("hunyuan_image")
    encode = pipe.encode_prompt
    pipe.encode_prompt = lambda prompt, **more: encode(prompt=[f'{text} "unsaid"' for text in [prompt]], **more)
    said = "letters to be drawn that no prompt has in quotation marks"
    with pytest.raises(RecordingError, match=said), probe.record(pipe, ["cat"]):
        pipelines.run(pipe, "hunyuan_image")


def test_letters_that_are_given_as_embeddings_are_an_error():
    pipe: Any = pipelines.load("hunyuan_image")
    states = {"prompt_embeds_2": torch.ones(1, several.GLYPHS, 32)}
    states |= {"prompt_embeds_mask_2": torch.ones(1, several.GLYPHS, dtype=torch.long)}
    said = "encoders were heard to read .*give the prompt as text, and no embeddings of it"
    with pytest.raises(RecordingError, match=said), probe.record(pipe, ["cat"]):
        pipelines.run(pipe, "hunyuan_image", **states)


def test_a_word_that_an_encoder_of_letters_does_not_read_is_an_error():
    pipe: Any = pipelines.load("hunyuan_image")
    said = "text_encoder_2 reads no token of 'cat'.*ask for 'cat' alone.*in quotation marks"
    with pytest.raises(NoSuchWord, match=said), probe.record(pipe, ["cat@text_encoder_2"]):
        pipelines.run(pipe, "hunyuan_image")


def test_text_to_text_is_of_the_whole_text_and_not_of_one_encoder_s():
    pipe: Any = pipelines.load("hunyuan_image")
    with probe.record(pipe, ["cat", "dog", "<image>"], relations=["text->text"]) as recording:
        pipelines.run(pipe, "hunyuan_image", prompt=SAID, output_type="latent")
    found = recording.trace.node("/relations/text_to_text")
    assert not any("refiner" in str(path) for path in found["site"].values)


def test_one_negative_prompt_stands_for_all():
    pipe: Any = pipelines.load("hidream")
    call: dict[str, Any] = several.FAMILIES["hidream"].call | {"output_type": "latent", "negative_prompt": "a bear"}
    with probe.record(pipe, ["bear"], branches="*") as recording:
        pipe(**call | {"prompt": ["a cat", "a dog"]}, generator=torch.Generator().manual_seed(0))
    found = recording.trace.attention_nodes()[0]["attention"].sel(word="bear", branch="negative")
    assert np.isfinite(found).all()


def test_a_film_from_a_picture_has_its_tokens_before_the_text():
    pipe: Any = several.hunyuan_video15_of_a_picture()
    several.shorter(pipe)
    without_refiners(pipe)
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"image": parts.picture(), "prompt": SAID, "num_frames": 5, "num_inference_steps": 2}

    def run() -> np.ndarray:
        return pipe(**call, output_type="latent", generator=torch.Generator().manual_seed(0))[0].numpy()

    plain, before = run(), hooks(*modules_of(pipe))
    with checking() as checks, probe.record(pipe, ["cat", "<image>"]):
        assert np.array_equal(plain, run())
    assert hooks(*modules_of(pipe)) == before
    assert max(checks.errors.values()) < 1e-6
    still, columns = keys(pipe, "cat@text_encoder_2", run)
    spellings = [LETTERS("cat", add_special_tokens=False).input_ids]
    assert moved(pipe, "text_encoder_2", spellings, still, run) == set(columns)
    first = checks.calls[0][1].plane.cells + 4 + len('Text "Hi, ')  # the picture's tokens are before the letters
    assert columns == [first, first + 1, first + 2]


# Pictures


def test_a_square_picture_is_not_filled_up():
    pipe: Any = pipelines.load("hidream")
    with checking() as checks, probe.record(pipe, ["cat", "<image>"]) as recording:
        pipelines.run(pipe, "hidream", height=80, width=80, output_type="latent")
    assert {site.grid for site in recording.trace.sites} == {(10, 10)}
    assert {call.rows for call, _ in checks.calls} == {10 * 10 + 3 * 32}
    assert max(checks.errors.values()) < 1e-6


CHANGES = (AttendAndExcite(subjects=("cat",)), PromptSchedule(prompts={0: "a dog"}))


@pytest.mark.parametrize("family", ["hidream", "hunyuan_image"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_reads_mixed_texts_is_recorded_and_not_changed(family: str, change: Intervention):
    pipe: Any = pipelines.load(family)
    said = "mixes what its encoders say anew .*only recording knows"
    with pytest.raises(BadInput, match=said), probe.record(pipe, interventions=[change]):
        pipelines.run(pipe, family)
