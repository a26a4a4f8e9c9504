"""The subjects of a prompt and their attributes: "a red balloon" is a balloon that is red.

The rule is the phrase head. A prompt is cut into phrases at punctuation, at function words (and, with, on, next to, of)
and before the verb that follows a noun; the last word of a phrase that a determiner or a number leads is its noun, and
so its subject, whatever a tagger says (some take "a bear" for a verb), but for what is said of it behind it ("a cat
asleep", "a bowl full of"); elsewhere it is the last word tagged as a noun. The adjectives and nouns before it are its
attributes. Openings ("a photo of"), quantities ("a group of"), places ("on the left"), styles ("in the style of ...")
and what is not to be there ("no cat", "without a crown") are no subjects. English only, and never sure: show the
choice, and let it be edited.

Tags come from spaCy where an English model is installed, else from textblob, which brings its own lexicon.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from probe.words.segment import FUNCTION_WORDS, Span, key, labels, segment, word_set
from probe.words.table import check_prompt

Tagger = Callable[[Sequence[str]], Sequence[str]]  # words -> Penn Treebank tags

DETERMINERS = word_set(
    "a an the this that these those my your his her its our their some any each every no another both several many few"
)
ADVERBS = frozenset({"very", "too", "not"})
JOINERS = frozenset({"and", "or", ","})
BE = frozenset({"is", "are", "was", "were", "be", "been", "being"})
OPENINGS = word_set(
    """photo photograph picture image painting drawing illustration sketch portrait rendering render close-up closeup
    view shot group pair couple bunch lot set piece kind type"""
)
PLACES = word_set("top bottom left right side front back middle center centre background foreground corner edge")
ABSENT = frozenset({"no", "without"})
THINGS = word_set("orange remote petal general native human individual miniature")  # that taggers take for adjectives
STOP = re.compile(r"[,;!?|\n]|\.(?!\d)")


class Modifier(BaseModel):
    """A word that describes a subject; `start` and `end` are characters of the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    start: int
    end: int


class Subject(Modifier):
    """A thing that the picture should show. `label` is that of the word in `read_prompt`: "cat", "cat#2"."""

    label: str
    attributes: tuple[Modifier, ...] = ()


def find_subjects(prompt: str, *, tagger: Tagger | None = None) -> tuple[Subject, ...]:
    """The subjects of a prompt, in its order; `tagger` replaces the one that is installed. Raises BadPrompt."""
    spans = segment(check_prompt(prompt))
    texts = [prompt[slice(*span)] for span in spans]
    tags = (tagger or default_tagger())([key(text) for text in texts]) if texts else ()
    words = [_Word(*row) for row in zip(texts, spans, labels(texts), _corrected(texts, tags), strict=True)]
    phrases = _phrases(prompt, words)
    following = [*(phrase.before for phrase in phrases[1:]), ""]
    heads = [_head(phrase) for phrase in phrases]
    styles = [False, *(head is not None and key(head.text) == "style" for head in heads)]
    return tuple(
        _subject(head, phrase)
        for head, phrase, after, style in zip(heads, phrases, following, styles, strict=False)
        if head and not style and _shows(head, phrase.before, after)
    )


@cache
def default_tagger() -> Tagger:
    """spaCy with the English model that is installed, else textblob. Nothing is ever downloaded."""
    names: list[str] = import_module("spacy.util").get_installed_models() if find_spec("spacy") else []
    english = sorted(name for name in names if name.startswith("en_"))
    return spacy_tagger(import_module("spacy").load(english[-1])) if english else textblob_tags


def textblob_tags(words: Sequence[str]) -> Sequence[str]:
    """Tags from the lexicon that textblob carries: no corpus is needed."""
    tagged: list[tuple[str, str]] = _textblob().tag(" ".join(words), tokenize=False)
    return [tag for _, tag in tagged]


@cache
def _textblob() -> Any:
    """textblob's English, its lexicon loaded: it leaves the files open, which is not the caller's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        english = import_module("textblob.en")
        english.tag("a", tokenize=False)
    return english


def spacy_tagger(model: Any) -> Tagger:
    """A tagger from a spaCy pipeline that sets tags."""
    document = import_module("spacy.tokens").Doc
    return lambda words: [token.tag_ for token in model(document(model.vocab, words=list(words)))]


class _Word(NamedTuple):
    text: str
    span: Span
    label: str
    tag: str


@dataclass
class _Phrase:
    """Words that may hold one subject; `before` is the word or mark that cut it off from the words before."""

    before: str = ""
    led: bool = False
    words: list[_Word] = field(default_factory=list[_Word])


def _corrected(texts: Sequence[str], tags: Sequence[str]) -> Sequence[str]:
    """The tags; what ends in -ing after a form of "be" is a verb."""
    after = ["", *(key(text) for text in texts)]
    doing = [before in BE and text.endswith("ing") for before, text in zip(after, texts, strict=False)]
    return ["VBG" if verb else tag for verb, tag in zip(doing, tags, strict=True)]


def _phrases(prompt: str, words: Sequence[_Word]) -> list[_Phrase]:
    phrases = [_Phrase()]
    for index, word in enumerate(words):
        gap = prompt[words[index - 1].span.end : word.span.start] if index else ""
        if STOP.search(gap) and not _goes_on(phrases[-1], word):
            phrases.append(_Phrase(before=","))
        _take(phrases, word, words[index + 1] if index + 1 < len(words) else None)
    return phrases


def _take(phrases: list[_Phrase], word: _Word, following: _Word | None) -> None:
    """Adds a word to the last phrase, or begins another with it."""
    name, last = key(word.text), phrases[-1]
    if name in ADVERBS:
        return
    if name in DETERMINERS or (word.tag == "CD" and not last.words):
        cut = name if name in ABSENT else "" if last.words else last.before
        phrases.append(_Phrase(before=cut, led=True))
    elif name in JOINERS and following and _goes_on(last, following):
        return
    elif name in FUNCTION_WORDS:
        phrases.append(_Phrase(before=name))
    elif _is_verb(word, last):
        phrases.append(_Phrase(before="verb"))
    else:
        last.words.append(word)


def _goes_on(phrase: _Phrase, word: _Word) -> bool:
    """Whether a phrase of adjectives only ("a black and white ...") goes on with a word behind "and" or a comma."""
    adjectives = phrase.led and phrase.words and all(w.tag.startswith("JJ") for w in phrase.words)
    return bool(adjectives) and key(word.text) not in DETERMINERS | FUNCTION_WORDS


def _is_verb(word: _Word, phrase: _Phrase) -> bool:
    """Whether a word is what the noun before it does. Bare forms ("bear") are so only after a plural."""
    nouns = [w for w in phrase.words if w.tag.startswith("NN") or (phrase.led and w.tag == "VB")]
    if not nouns:
        return not phrase.words and not phrase.led and word.tag in ("VBG", "VBZ", "VBD", "MD") and phrase.before in BE
    return word.tag in ("VBG", "VBZ", "VBD", "VBN", "VBP", "MD") or (word.tag == "VB" and nouns[-1].tag == "NNS")


def _head(phrase: _Phrase) -> _Word | None:
    """The noun of a phrase."""
    if phrase.led:
        return _last_thing(phrase.words)
    nouns = [word for word in phrase.words if word.tag.startswith("NN")]
    bare = phrase.words[-1:] if phrase.before != "verb" and phrase.words[-1:] and phrase.words[-1].tag == "VB" else []
    return next(iter([*bare, *nouns[::-1]]), None)


def _last_thing(words: Sequence[_Word]) -> _Word | None:
    """The last word; where a noun comes before it, the last that is not said of one: "cat asleep", "dog bigger"."""
    end = len(words)
    while end > 1 and _describes(words[end - 1]) and any(word.tag.startswith("NN") for word in words[: end - 1]):
        end -= 1
    return words[end - 1] if words else None


def _describes(word: _Word) -> bool:
    return word.tag.startswith(("JJ", "RB")) and key(word.text) not in THINGS


def _shows(head: _Word, before: str, after: str) -> bool:
    """Whether a noun is a thing in the picture: no opening, quantity, place or size ("4k"), nor said to be absent."""
    name = key(head.text)
    place = name in PLACES and (after == "of" or (before in FUNCTION_WORDS and before not in JOINERS))
    said = name == "style" or name[0].isdigit() or (name in OPENINGS and after == "of")
    return not place and not said and before not in ABSENT


def _subject(head: _Word, phrase: _Phrase) -> Subject:
    words = phrase.words[: phrase.words.index(head)]
    attributes = tuple(
        Modifier(text=word.text, start=word.span.start, end=word.span.end)
        for word in words
        if word.tag[:2] in ("JJ", "NN", "VB")
    )
    return Subject(text=head.text, label=head.label, start=head.span.start, end=head.span.end, attributes=attributes)
