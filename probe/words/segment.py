"""Where the words of a prompt are: by Unicode's properties, without a dictionary.

- Letters, digits and marks make a word; a hyphen or an apostrophe inside keeps it whole: ice-cream, dog's, l'homme.
- An emoji is one word, with all that a joiner or a skin tone adds to it.
- Han and Hiragana write no spaces, so each character is a word; name several together to mean more ("红气球").
  A run of Katakana is one word. Other scripts are cut at their spaces.
- Punctuation is no word, nor is the number of a weight: "(cat:1.3)" and "((cat))" hold the one word cat.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import regex

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
WEIGHT = rf"(?:(?<![\d\s])\s*:\s*{NUMBER}|:\s*\d*\.\d+)(?=\s*[)\]])|(?<=[)\]])\d*\.\d+"
EMOJI = r"\p{Regional_Indicator}{2}|(?=\p{Extended_Pictographic}|[0-9#*]\uFE0F?\u20E3)\X"
LETTER = r"[[\p{L}\p{M}\p{N}\p{Join_Control}]--[\p{Han}\p{Hiragana}\p{Katakana}ー]]"
LETTERS = rf"(?=[\p{{L}}\p{{N}}]){LETTER}+"
ALPHABETIC = rf"{LETTERS}(?:(?:[-_'\u2010\u2011\u2019\uFF07]|(?<=\p{{N}})[.,](?=\p{{N}})){LETTERS})*"
UNSPACED = r"[\p{Han}\p{Hiragana}][\p{M}ー]*|[\p{Katakana}ー][\p{Katakana}\p{M}ー]*"
PATTERN = regex.compile(rf"(?P<weight>{WEIGHT})|{EMOJI}|{UNSPACED}|{ALPHABETIC}", regex.V1)


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


FUNCTION_WORDS = word_set(
    """a an the this that these those my your his her its our their some any each every no not
    of in on at by for with without from to into onto over under above below behind beside besides between near next
    through across around along against inside outside upon within beneath beyond among during after before about
    off up down out and or but nor so yet as than while is are was were be been being has have had having do does did
    it he she they we i you who which what whose where when there here very too"""
)


class Span(NamedTuple):
    """A stretch of the prompt, in characters; `end` is the first one after it."""

    start: int
    end: int


def segment(prompt: str) -> tuple[Span, ...]:
    """The words of a prompt, in order; see the module's docstring for what a word is."""
    return tuple(Span(*match.span()) for match in PATTERN.finditer(prompt) if match["weight"] is None)


def key(text: str) -> str:
    """What two spellings of one word have in common: case, composition and the kind of apostrophe do not count."""
    return unicodedata.normalize("NFC", text.replace("\u2019", "'").casefold())


def labels(texts: Iterable[str]) -> tuple[str, ...]:
    """One label a word: its text, with #2, #3, ... from its second occurrence on."""
    seen: Counter[str] = Counter()
    named: list[str] = []
    for text in texts:
        seen[key(text)] += 1
        named.append(text if seen[key(text)] == 1 else f"{text}#{seen[key(text)]}")
    return tuple(named)


def phrase(text: str, spans: Sequence[Span]) -> tuple[str, ...]:
    """The key of each word, with a space before it unless it touches the word before: "".join(...) compares phrases."""
    ends = [span.start for span in spans[:1]] + [span.end for span in spans]
    return tuple(" " * (end < span.start) + key(text[slice(*span)]) for span, end in zip(spans, ends, strict=False))


def is_content(text: str) -> bool:
    """Whether a word names something: articles, prepositions, conjunctions and the like do not."""
    return key(text) not in FUNCTION_WORDS
