"""Words and tokens of prompts. Oracles: tables counted by hand on the small tokenizers, and properties."""

import copy
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from probe.errors import BadInput, BadModel, BadPrompt, NoMatch, NoSuchWord
from probe.words import Prompt, Token, Word, read_negative, read_prompt, segment, word_table
from probe.words.article import article
from probe.words.segment import key
from probe.words.table import LONGEST
from tests import tokenizers

BUILD = {
    "clip": tokenizers.clip_tokenizer,
    "t5": tokenizers.t5_tokenizer,
    "qwen": tokenizers.qwen_tokenizer,
    "llama": tokenizers.llama_tokenizer,
    "gemma": tokenizers.gemma_tokenizer,
}
ALL = {name: build() for name, build in BUILD.items()}
CLIP, T5, QWEN = ALL["clip"], ALL["t5"], ALL["qwen"]
SEGMENTS = {
    "a cat, and a red balloon!": "a cat and a red balloon",
    "ice-cream at the dog's l'homme l’homme dogs' 'cat'": "ice-cream at the dog's l'homme l’homme dogs cat",
    "café cafe\u0301 naïve façade Straße": "café cafe\u0301 naïve façade Straße",
    "👩‍👩‍👧🐱🐶 👍🏽 🇫🇷🇩🇪 1️⃣": "👩‍👩‍👧 🐱 🐶 👍🏽 🇫🇷 🇩🇪 1️⃣",
    "一只猫和红气球": "一 只 猫 和 红 气 球",
    "バルーンとねこ、ラーメン": "バルーン と ね こ ラーメン",
    "한국어 고양이": "한국어 고양이",
    "A猫 cat犬": "A 猫 cat 犬",
    "(cat:1.3) ((dog)) [bird:0.5] (a bear)1.2 (fox : 2)": "cat dog bird a bear fox",
    "at 12:30 (at 12:30) 1,000 3.5 red_hat -x-": "at 12 30 at 12 30 1,000 3.5 red_hat x",
    "!?,. … «»": "",
}


def one(prompt: str, tokenizer: Any = CLIP, **options: Any) -> Prompt:
    """A prompt read by one encoder, "e"; options are of that encoder."""
    return read_prompt(prompt, {"e": tokenizer}, **{name: {"e": value} for name, value in options.items()})


def pieces(prompt: Prompt, encoder: str = "e") -> dict[str, str]:
    """Texts of the tokens of each word."""
    return {w.label: "|".join(prompt.tokens[i].text for i in w.tokens[encoder]) for w in prompt.words}


class TestSegments:
    @pytest.mark.parametrize(("prompt", "expected"), SEGMENTS.items())
    def test_by_hand(self, prompt: str, expected: str) -> None:
        assert [prompt[start:end] for start, end in segment(prompt)] == expected.split()

    @given(st.text())
    def test_words_stand_apart_and_in_order(self, prompt: str) -> None:
        spans = segment(prompt)
        assert all(start < end for start, end in spans)
        assert all(left.end <= right.start for left, right in pairwise(spans))
        letters = {i for i, letter in enumerate(prompt) if letter.isalpha()}
        assert letters <= {i for start, end in spans for i in range(start, end)}

    @pytest.mark.parametrize("part", ["(", "cat:", "a-", "1,", ": 1", " ", "猫", "🇫", "\u0301", "\u200d"])
    def test_hostile_prompts_take_no_time(self, part: str) -> None:
        begun = time.process_time()
        segment(part * (LONGEST // len(part)))
        assert time.process_time() - begun < 1


class TestTable:
    def test_clip(self) -> None:
        """start a cat and a red balloon end: eight tokens, as the dictionary of CLIP splits them."""
        prompt = one("a cat and a red balloon", lengths=10)
        assert [w.label for w in prompt.words] == ["a", "cat", "and", "a#2", "red", "balloon"]
        assert [w.tokens["e"] for w in prompt.words] == [(1,), (2,), (3,), (4,), (5,), (6,)]
        assert [t.special for t in prompt.tokens] == ["<start>", *[None] * 6, "<end>", "<padding>", "<padding>"]
        assert [t.word for t in prompt.tokens[1:7]] == ["a", "cat", "and", "a#2", "red", "balloon"]
        assert prompt.tokens[0].text == "<|startoftext|>"

    def test_t5_merges_sub_tokens(self) -> None:
        """In T5 a low line of its own stands on the first letter of its word, and belongs to it."""
        prompt = one("a wolf 🐱", T5, lengths=9)
        raw = T5.convert_ids_to_tokens(list(prompt.ids("e")))
        assert raw == ["▁a", "▁w", "o", "l", "f", "▁", "<unk>", "</s>", "<pad>"]
        assert [w.tokens["e"] for w in prompt.words] == [(0,), (1, 2, 3, 4), (5, 6)]
        assert prompt.specials == {"<start>": {"e": ()}, "<end>": {"e": (7,)}, "<padding>": {"e": (8,)}}

    def test_two_clips_and_t5(self) -> None:
        """As in SD3: one table of words, three sequences that are counted apart."""
        prompt = read_prompt(
            "a cat and the cat",
            {"text_encoder": CLIP, "text_encoder_2": CLIP, "text_encoder_3": T5},
            lengths={"text_encoder": 77, "text_encoder_2": 77, "text_encoder_3": 20},
        )
        assert prompt.encoders == ("text_encoder", "text_encoder_2", "text_encoder_3")
        assert prompt.lengths == {"text_encoder": 77, "text_encoder_2": 77, "text_encoder_3": 20}
        cat = prompt.find("cat#2")
        assert cat.tokens == {"text_encoder": (5,), "text_encoder_2": (5,), "text_encoder_3": (4,)}
        assert prompt.columns("<start>", "text_encoder_3") == ()
        assert prompt.columns("<padding>", "text_encoder") == tuple(range(7, 77))

    def test_qwen_takes_the_space_off(self) -> None:
        prompt = one("a red balloon", QWEN)
        assert [(t.text, t.start, t.end) for t in prompt.tokens] == [("a", 0, 1), ("red", 2, 5), ("balloon", 6, 13)]

    def test_accents(self) -> None:
        """Composed and decomposed spellings are one word said twice; bytes of one letter belong to its word."""
        prompt = one("café cafe\u0301 naïve")
        assert [w.label for w in prompt.words] == ["café", "cafe\u0301#2", "naïve"]
        assert all(w.tokens["e"] for w in prompt.words)
        assert prompt.find("CAFÉ") == prompt.words[0]

    @pytest.mark.parametrize("name", ["clip", "qwen", "llama", "gemma"])
    def test_emoji(self, name: str) -> None:
        """A family of three is 3 x 4 bytes and two joiners of 3: eighteen tokens, one word."""
        prompt = one("a 👩‍👩‍👧 cat", ALL[name])
        family = prompt.find("👩‍👩‍👧")
        assert (family.start, family.end) == (2, 7)
        assert len(family.tokens["e"]) == 18

    def test_hyphens_and_apostrophes(self) -> None:
        assert pieces(one("ice-cream dog's l'homme")) == {
            "ice-cream": "ice|-|cream",
            "dog's": "dog|'|s",
            "l'homme": "l|'|homme",
        }

    def test_chinese_words_are_those_of_a_tokenizer_that_knows_them(self) -> None:
        """Trained on 一只猫和一只狗, it reads 一只 as one token, so that is the smallest word that has a place."""
        prompt = one("一只狗", ALL["llama"])
        assert [w.label for w in prompt.words] == ["一只", "狗"]
        assert prompt.find("一只狗").tokens["e"] == tuple(sorted(i for w in prompt.words for i in w.tokens["e"]))

    def test_a_token_over_two_words_goes_to_the_first_of_equals(self) -> None:
        """T5 reads two emoji as one unknown token, CLIP both: they stay two words; the second has no place in T5."""
        prompt = read_prompt("🐱🐶", {"clip": CLIP, "t5": T5})
        cat, dog = prompt.words
        assert (len(cat.tokens["clip"]), len(dog.tokens["clip"])) == (4, 4)
        assert (len(cat.tokens["t5"]), dog.tokens["t5"]) == (2, ())
        said = "t5 reads '🐱🐶' in one token, which counts for '🐱' alone: words=['🐱🐶'] takes them together"
        assert prompt.shared == said
        assert prompt.find("🐱🐶").tokens["t5"] == cat.tokens["t5"]

    def test_words_that_share_no_token_are_not_spoken_of(self) -> None:
        assert read_prompt("日本 cat🐶", {"clip": CLIP}).shared == ""
        assert read_prompt("日本", {"t5": T5}).shared == ""  # there it is one word
        assert read_prompt("an ice-cream, l'homme (cat:1.2)", {"clip": CLIP, "t5": T5}).shared == ""

    def test_weights(self) -> None:
        prompt = one("a (red:1.3) ((balloon))")
        assert [w.label for w in prompt.words] == ["a", "red", "balloon"]
        unowned = [t.text for t in prompt.tokens if t.special is None and t.word is None]
        assert "".join(unowned) == "(:1.3)(())"

    def test_content(self) -> None:
        prompt = one("a picture of the red balloon next to an ice-cream")
        assert [w.text for w in prompt.words if w.content] == ["picture", "red", "balloon", "ice-cream"]

    def test_word_table_of_plain_encodings(self) -> None:
        """The table needs what `tokenizers.Encoding` has, and no tokenizer."""
        words, tokens = word_table("a red cat", {"e": CLIP("a red cat").encodings[0]})
        prompt = one("a red cat")
        assert (words, tokens) == (prompt.words, prompt.tokens)

    def test_a_text_that_looks_like_a_special_token(self) -> None:
        prompt = one("a <|endoftext|> cat")
        assert [(t.special, t.word) for t in prompt.tokens if t.text == "<|endoftext|>"] == [
            (None, "endoftext"),
            ("<end>", None),
        ]


class TestFind:
    prompt = one("a Red balloon, the cat and a red  balloon (red:1.2) hat", lengths=77)

    @pytest.mark.parametrize(
        ("name", "start", "label"),
        [
            ("balloon", 6, "balloon"),
            ("BALLOON", 6, "balloon"),
            ("red", 2, "Red"),
            ("red#2", 29, "red#2"),
            ("Red#3", 43, "red#3"),
            ("red balloon", 2, "Red balloon"),
            ("Red Balloon#2", 29, "red balloon#2"),
            ("the cat", 15, "the cat"),
            ("balloon the cat", 6, "balloon the cat"),
            ("red hat", 43, "red hat"),
        ],
    )
    def test_names(self, name: str, start: int, label: str) -> None:
        word = self.prompt.find(name)
        assert (word.start, word.label) == (start, label)

    def test_a_phrase_has_the_tokens_of_its_words(self) -> None:
        assert self.prompt.columns("red balloon", "e") == (2, 3)
        assert self.prompt.columns("balloon the cat", "e") == (3, 5, 6)
        assert self.prompt.find("the cat").content
        assert not self.prompt.find("and a").content

    @pytest.mark.parametrize("name", ["dog", "ball", "red cat", "", " ", ",", "red#0", "cat#2#2", "<pad>", "loon"])
    def test_not_there(self, name: str) -> None:
        with pytest.raises(
            NoSuchWord, match=re.escape(f"{name!r} is not in the prompt; its words are: a, Red, balloon")
        ):
            self.prompt.find(name)

    def test_too_few_of_them(self) -> None:
        with pytest.raises(NoSuchWord, match=r"'cat#2' is not in the prompt; it holds 'cat' 1 times; its words are"):
            self.prompt.find("cat#2")

    def test_special_tokens_by_name(self) -> None:
        assert self.prompt.find("<start>") == Word(
            label="<start>", text="<start>", start=0, end=0, tokens={"e": (0,)}, content=False
        )

    def test_no_such_encoder(self) -> None:
        with pytest.raises(NoMatch, match=r"no encoder is called 'text_encoder_9'; there are: e"):
            self.prompt.columns("cat", "text_encoder_9")

    def test_a_word_whose_tokens_are_its_neighbours(self) -> None:
        words, tokens = word_table("🐱🐶", {"a": CLIP("🐱🐶").encodings[0], "t5": T5("🐱🐶").encodings[0]})
        cat, dog = (w.model_copy(update={"tokens": {"t5": w.tokens["t5"]}}) for w in words)
        prompt = Prompt(text="🐱🐶", words=(cat, dog), tokens=tokens, lengths={"t5": 3})
        with pytest.raises(
            NoSuchWord, match=r"no encoder reads a token of '🐶': it shares its tokens with 🐱; ask for them"
        ):
            prompt.find("🐶")
        assert prompt.find("🐱🐶").tokens == {"t5": (0, 1)}


class TestLengths:
    def test_what_falls_off_77_tokens(self) -> None:
        """Start, 75 tokens, end: of forty times "a cat" the last five words are cut off."""
        prompt = one(" ".join(["a cat"] * 40), lengths=77)
        assert prompt.lengths == {"e": 77}
        assert prompt.fallen == {"e": ("cat#38", "a#39", "cat#39", "a#40", "cat#40")}
        assert prompt.notice == "e reads 77 tokens, and not all of: cat#38, a#39 and 3 more"
        assert prompt.columns("cat#37", "e") == (74,)
        with pytest.raises(NoSuchWord, match=r"no encoder reads a token of 'cat#40': e reads 77 tokens.*Shorten"):
            prompt.find("cat#40")

    def test_a_word_cut_in_two_has_fallen(self) -> None:
        """CLIP has no word "wxyz": four letters, of which two fit."""
        prompt = one("a wxyz", lengths=5)
        assert prompt.fallen == {"e": ("wxyz",)}
        assert pieces(prompt) == {"a": "a", "wxyz": "w|x"}

    def test_another_encoder_may_still_read_it(self) -> None:
        prompt = read_prompt("a red cat", {"clip": CLIP, "t5": T5}, lengths={"clip": 4, "t5": 32})
        assert prompt.fallen == {"clip": ("cat",), "t5": ()}
        assert prompt.columns("cat", "clip") == ()
        assert prompt.columns("cat", "t5") == (2,)

    def test_a_long_notice_is_short(self) -> None:
        names = " ".join("abcdefghijklm")
        assert one(f"x {names}", lengths=3).notice.endswith("not all of: b, c, d, e, f, g, h, j and 5 more")

    def test_a_notice_names_things_first_and_each_once(self) -> None:
        lost = one("a cat " + "very " * 90 + "balloon and a balloon", lengths=77)
        assert lost.fallen["e"][-1] == "balloon#2" and len(lost.fallen["e"]) > 8
        more = len(lost.fallen["e"]) - 4
        assert lost.notice.endswith(f"not all of: balloon, very#19, and, a#2 and {more} more")

    def test_nothing_fell(self) -> None:
        assert (one("a cat", lengths=77).notice, one("a cat").fallen) == ("", {"e": ()})

    def test_cut_but_not_padded(self) -> None:
        prompt = read_prompt("a red cat and a cat", {"e": QWEN}, lengths={"e": 3}, unpadded=("e",))
        assert (prompt.lengths, prompt.fallen) == ({"e": 3}, {"e": ("and", "a#2", "cat#2")})
        assert read_prompt("a cat", {"e": QWEN}, lengths={"e": 3}, unpadded=("e",)).lengths == {"e": 2}

    def test_padding_on_the_left(self) -> None:
        prompt = one("a cat", ALL["llama"], lengths=5)
        assert [t.special for t in prompt.tokens] == ["<padding>", "<padding>", "<start>", None, None]
        assert prompt.columns("cat", "e") == (4,)

    @pytest.mark.parametrize("name", BUILD)
    def test_ids_are_those_of_the_tokenizer(self, name: str) -> None:
        prompt = one("a red cat, l'homme 一只猫", ALL[name], lengths=64)
        expected = ALL[name](prompt.text, padding="max_length", max_length=64, truncation=True).input_ids
        assert list(prompt.ids("e")) == expected


MESSAGES = [{"role": "system", "content": "a photo"}, {"role": "user", "content": "{}"}]


class TestTemplates:
    """As Qwen-Image: a chat around the prompt, of which the pipeline drops the system's part."""

    template = QWEN.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    head, tail = template.split("{}")
    front = len(QWEN(head).input_ids)

    def test_words_are_found_behind_what_is_dropped(self) -> None:
        prompt = one("a photo of a red balloon", QWEN, templates=self.template, drop=self.front)
        assert [w.tokens["e"] for w in prompt.words] == [(0,), (1,), (2,), (3,), (4,), (5,)]
        assert prompt.specials["<start>"]["e"] == ()
        assert len(prompt.specials["<end>"]["e"]) == len(QWEN(self.tail).input_ids)
        assert prompt.ids("e") == tuple(QWEN(self.template.format(prompt.text)).input_ids[self.front :])

    def test_what_stands_before_is_a_start(self) -> None:
        prompt = one("a cat", QWEN, templates=self.template)
        assert prompt.specials["<start>"]["e"] == tuple(range(self.front))
        assert prompt.columns("cat", "e") == (self.front + 1,)

    def test_lengths_count_what_is_left(self) -> None:
        prompt = one("a red cat", QWEN, templates=self.template, drop=self.front, lengths=40)
        assert prompt.lengths == {"e": 40}
        cut = one("a red cat", QWEN, templates=self.template, drop=self.front, lengths=2)
        assert (cut.lengths, cut.fallen) == ({"e": 2}, {"e": ("cat",)})

    def test_a_range_is_dropped(self) -> None:
        """As Sana: the first token stays, the rest of the instruction goes."""
        text = "a photo of the house: "
        prompt = one("a cat", ALL["gemma"], templates=text + "{}", drop=range(1, len(ALL["gemma"](text).input_ids) - 1))
        assert [t.text for t in prompt.tokens][:1] == ["<bos>"]
        assert prompt.columns("cat", "e") == (len(prompt.tokens) - 1,)

    def test_dropping_too_much_is_seen(self) -> None:
        assert one("a cat", CLIP, drop=2).fallen == {"e": ("a",)}

    def test_a_template_with_its_own_start_gets_no_second_one(self) -> None:
        prompt = one("a cat", ALL["llama"], templates="<s>the {}")
        assert prompt.ids("e").count(ALL["llama"].bos_token_id) == 1

    def test_words_of_the_template_are_not_words_of_the_prompt(self) -> None:
        assert [w.label for w in one("cat", QWEN, templates=self.template).words] == ["cat"]

    @pytest.mark.parametrize("template", ["no place", "{} and {}"])
    def test_bad_templates(self, template: str) -> None:
        with pytest.raises(BadInput, match=r"the template of e holds [02] places for the prompt; write {} once"):
            one("a cat", templates=template)

    def test_braces_in_prompts_are_text(self) -> None:
        assert [w.label for w in one("a {} {cat}", templates="the {}").words] == ["a", "cat"]


class TestBadInput:
    @pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "\u3000"])
    def test_blank(self, prompt: str) -> None:
        with pytest.raises(BadPrompt, match=r"the prompt is blank .* say what the picture should show"):
            one(prompt)
        with pytest.raises(BadPrompt, match="blank"):
            word_table(prompt, {})

    @pytest.mark.parametrize("prompt", [None, 3, ["a cat"], b"a cat"])
    def test_no_text(self, prompt: Any) -> None:
        with pytest.raises(
            BadPrompt, match=rf"one text \(str\), not {type(prompt).__name__}; read several prompts one"
        ):
            one(prompt)

    def test_half_a_letter(self) -> None:
        with pytest.raises(BadPrompt, match="character 2 of the prompt is half a surrogate pair"):
            one("a \ud83d")

    def test_a_book(self) -> None:
        with pytest.raises(BadPrompt, match="the prompt has 20,001 characters; at most 20,000"):
            one("a" * 20_001)

    def test_no_tokenizer(self) -> None:
        with pytest.raises(BadModel, match=r"the tokenizer of e is a object, which is none of transformers, .* give"):
            one("a cat", object())

    @pytest.mark.parametrize(
        ("name", "specials"), [("clip", ["<start>", "<end>"]), ("t5", ["<end>"]), ("qwen", []), ("llama", ["<start>"])]
    )
    def test_a_negative_prompt_may_be_blank(self, name: str, specials: list[str]) -> None:
        prompt = read_negative("", {"e": ALL[name]}, lengths={"e": 4})
        assert prompt.words == ()
        found = [t.special for t in prompt.tokens if t.special != "<padding>"]
        assert (found, prompt.lengths) == (specials, {"e": 4})
        assert read_negative("", {"e": ALL[name]}).encoders == ("e",)


class TestManners:
    @pytest.mark.parametrize("name", BUILD)
    def test_the_tokenizer_is_left_as_it_was(self, name: str) -> None:
        tokenizer = BUILD[name]()
        tokenizer("a cat", padding="max_length", truncation=True, max_length=9)
        before = tokenizer.backend_tokenizer.to_str(), copy.copy(tokenizer.deprecation_warnings)
        one("a cat " * 100, tokenizer, lengths=5)
        assert (tokenizer.backend_tokenizer.to_str(), tokenizer.deprecation_warnings) == before

    @pytest.mark.parametrize("name", BUILD)
    def test_saved_and_loaded(self, name: str, tmp_path: Path) -> None:
        ALL[name].save_pretrained(tmp_path)
        for again in (type(ALL[name]).from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
            assert one("l'homme 👩‍👩‍👧 一只猫 (x:1.2)", again) == one("l'homme 👩‍👩‍👧 一只猫 (x:1.2)", ALL[name])
        assert len(ALL[name]) < tokenizers.LARGEST

    def test_a_processor_holds_a_tokenizer(self) -> None:
        class Processor:
            tokenizer = CLIP

        assert one("a cat", Processor()) == one("a cat")

    def test_no_torch(self) -> None:
        code = "import sys, probe.words; print(sorted({'torch', 'transformers', 'diffusers'} & set(sys.modules)))"
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

    def test_frozen_and_serialised(self) -> None:
        prompt = one("a cat")
        assert Prompt.model_validate_json(prompt.model_dump_json()) == prompt
        with pytest.raises(ValueError, match="frozen"):
            prompt.text = "a dog"


LETTERS = st.sampled_from(
    ["cat", "red", "balloon", "é", "e\u0301", "ﬁ", "ß", "İ", "猫", "一只", "ね", "ー", "ラ", "👩‍👩‍👧", "🐱", "🇫🇷"]
)
MARKS = st.sampled_from(
    [" ", "  ", "\n", "-", "'", "’", ",", "(", ":1.3)", "#2", "_", ".", "\u200d", "\ufe0f", "1", "<s>"]
)
PROMPTS = st.one_of(st.lists(LETTERS | MARKS, min_size=1, max_size=12).map("".join), st.text(min_size=1)).filter(
    str.strip
)


@pytest.mark.parametrize("name", BUILD)
@settings(max_examples=60)
@given(text=PROMPTS)
def test_properties(name: str, text: str) -> None:
    """A token has at most one word; a word's tokens and those its neighbours took cover it; labels lead back."""
    prompt = one(text, ALL[name])
    row = prompt.tokens
    assert [t.index for t in row] == list(range(len(row)))
    owners = [w.label for t in row for w in prompt.words if t.index in w.tokens["e"]]
    assert len(owners) == len([t for t in row if t.word]) == len({t.index for t in row if t.word})
    for word in prompt.words:
        assert text[word.start : word.end] == word.text
        own = {place for i in word.tokens["e"] for place in _places(row[i])}
        taken = {place for t in row if t.word not in (None, word.label) for place in _places(t)}
        read = {place for t in row for place in _places(t)}
        assert set(range(word.start, word.end)) & read <= own | taken
        assert all(row[i].word == word.label for i in word.tokens["e"])
    for word in (w for w in prompt.words if w.tokens["e"]):
        assert prompt.find(word.label) == word
        assert key(prompt.find(word.text).text) == key(word.text)


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(["cat", "Red", "balloon", "ice-cream", "dog's", "a"]), min_size=1, max_size=9), st.data()
)
def test_latin_words_are_covered_whole(names: list[str], data: st.DataObject) -> None:
    """Words between spaces share no token, so each is covered to the letter; any run of them is a phrase."""
    text = " ".join(names)
    prompt = read_prompt(text, ALL)
    for word in prompt.words:
        for name in ALL:
            row = [t for t in prompt.tokens if t.encoder == name]
            covered = {place for i in word.tokens[name] for place in _places(row[i])}
            assert covered == set(range(word.start, word.end))
    first = data.draw(st.integers(0, len(names) - 1))
    last = data.draw(st.integers(first, len(names) - 1))
    name = " ".join(names[first : last + 1])
    found = prompt.find(name.upper())
    assert (found.text.casefold(), prompt.find(found.label)) == (name.casefold(), found)


def _places(token: Token) -> range:
    return range(token.start, token.end) if token.special is None else range(0)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("doctor", "a"),
        ("astronaut", "an"),
        ("engineer", "an"),
        ("honest person", "an"),
        ("heir", "an"),
        ("university teacher", "a"),
        ("European", "a"),
        ("usher", "an"),
        ("unknown person", "an"),
        ("user", "a"),
    ],
)
def test_articles(noun: str, expected: str):
    assert article(noun) == expected
