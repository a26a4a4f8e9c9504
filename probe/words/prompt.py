"""A prompt that has been read: its words, its tokens, and where each sits in every encoder's sequence."""

import re
from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from probe.axes import SPECIAL
from probe.errors import NoMatch, NoSuchWord
from probe.words.model import Token, Word
from probe.words.segment import Span, labels, phrase, segment

LISTED = 8  # words in a notice


class Prompt(BaseModel):
    """A prompt as the encoders read it.

    `lengths` are those of the encoders' sequences, in tokens; `fallen` names the words that an encoder reads only in
    part, or not at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    words: tuple[Word, ...]
    tokens: tuple[Token, ...]
    lengths: dict[str, int]
    fallen: dict[str, tuple[str, ...]] = {}

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders."""
        return tuple(self.lengths)

    def ids(self, encoder: str) -> tuple[int, ...]:
        """The ids that the encoder reads, position by position: equal to what the pipeline feeds to it."""
        return tuple(token.id for token in self._row(encoder))

    @property
    def specials(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Positions of the special tokens: by name ("<start>", "<end>", "<padding>"), then by encoder."""
        return {
            name: {
                encoder: tuple(t.index for t in self._row(encoder) if t.special == name) for encoder in self.encoders
            }
            for name in SPECIAL
        }

    @property
    def notice(self) -> str:
        """One line on the words that were truncated, or nothing: those that name something first, each once."""
        lines = (
            f"{encoder} reads {self.lengths[encoder]} tokens, and not all of: {self._few(fallen)}"
            for encoder, fallen in self.fallen.items()
            if fallen
        )
        return "; ".join(lines)

    @property
    def shared(self) -> str:
        """One line on tokens that reach over two words, of which one gets all of it, or nothing."""
        borders = {first.end: (first, second) for first, second in pairwise(self.words) if first.end == second.start}
        found: dict[str, None] = {}
        for token in self.tokens:
            inside = [borders[place] for place in range(token.start + 1, token.end) if place in borders]
            if inside and token.word is not None:
                both = self.text[inside[0][0].start : inside[-1][1].end]
                said = f"{token.encoder} reads {both!r} in one token, which counts for {token.word!r} alone"
                found[f"{said}: words=[{both!r}] takes them together"] = None
        return "; ".join(list(found)[:LISTED])

    def find(self, name: str) -> Word:
        """A word by its label or text, a phrase ("red balloon") as one word, or a special token by its name.

        Case does not count; "#2" names the second occurrence. Raises NoSuchWord, listing the words, for a name that is
        not in the prompt or of which no encoder reads a token.
        """
        if name in SPECIAL:
            return Word(label=name, text=name, start=0, end=0, tokens=self.specials[name], content=False)
        word = find_word(self.text, self.words, name)
        if not any(word.tokens.values()):
            raise NoSuchWord(f"no encoder reads a token of {name!r}: {self._why(word)}")
        return word

    def columns(self, name: str, encoder: str) -> tuple[int, ...]:
        """Positions of a word, phrase or special token in one encoder's sequence; none if the encoder does not read it.

        Raises NoSuchWord (see `find`) and NoMatch for an encoder that there is not.
        """
        self._row(encoder)
        return self.find(name).tokens.get(encoder, ())

    def _few(self, fallen: Sequence[str]) -> str:
        """The first of some labels, content words before others, without repeats; and how many more there are."""
        lost = sorted((word for word in self.words if word.label in fallen), key=lambda word: not word.content)
        once = [
            word.label for word, label in zip(lost, labels(w.text for w in lost), strict=True) if label == word.text
        ]
        listed = once[:LISTED]
        return ", ".join(listed) + (f" and {len(fallen) - len(listed)} more" if len(fallen) > len(listed) else "")

    def _row(self, encoder: str) -> tuple[Token, ...]:
        if encoder not in self.lengths:
            raise NoMatch(f"no encoder is called {encoder!r}; there are: {', '.join(self.encoders) or 'none'}")
        return tuple(token for token in self.tokens if token.encoder == encoder)

    def _why(self, word: Word) -> str:
        if any(word.label in labels for labels in self.fallen.values()):
            return f"{self.notice}. Shorten the prompt, or say it earlier"
        neighbours = [w for w in self.words if any(w.tokens.values()) and w.start <= word.end and word.start <= w.end]
        return f"it shares its tokens with {', '.join(w.label for w in neighbours) or 'nothing'}; ask for them together"


def find_word(text: str, words: Sequence[Word], name: str) -> Word:
    """A word of `text` by its label or text, or several that follow each other as one. Raises NoSuchWord."""
    for word in words:
        if word.label == name:
            return word
    base, number = _numbered(name)
    found = _occurrences(text, words, base)
    if len(found) < number:
        held = f"; it holds {base!r} {len(found)} times" if found else ""
        listed = ", ".join(word.label for word in words) or "none"
        raise NoSuchWord(f"{name!r} is not in the prompt{held}; its words are: {listed}")
    chosen = found[number - 1]
    return chosen[0] if len(chosen) == 1 else _together(text, chosen, number)


def label_like(name: str, among: Sequence[str]) -> str | None:
    """The label of the same word or phrase, as "café#2" is "CAFÉ#2"; without a number, else the first that is there.

    Labels of special tokens ("<start>") are only themselves.
    """
    if name in among:
        return name
    own = {label: _spelling(label) for label in among if not label.startswith("<")}
    wanted, number = _spelling(name)
    alike = [label for label, (spelt, _) in own.items() if spelt == wanted]
    exact = [label for label in alike if own[label][1] == number]
    return next(iter(exact or (alike if number == 1 else [])), None)


def _spelling(name: str) -> tuple[str, int]:
    """What all spellings of a word or phrase have in common, and which occurrence it is."""
    base, number = _numbered(name)
    return "".join(phrase(base, segment(base))), number


def _numbered(name: str) -> tuple[str, int]:
    """("cat", 2) of "cat#2"."""
    base, _, number = name.rpartition("#") if re.search(r".#[1-9]\d*$", name) else (name, "", "1")
    return base, int(number)


def _occurrences(text: str, words: Sequence[Word], name: str) -> list[Sequence[Word]]:
    """All runs of words that spell `name`."""
    wanted = "".join(phrase(name, segment(name)))
    keys = phrase(text, [Span(word.start, word.end) for word in words])
    found = ((first, _match(keys[first:], wanted)) for first in range(len(words)))
    return [words[first : first + count] for first, count in found if count]


def _match(keys: Sequence[str], wanted: str) -> int:
    """How many keys spell `wanted`, from the first on; 0 if they do not."""
    spelt = ""
    for count, key in enumerate(keys, 1):
        spelt += key if count > 1 else key.lstrip()
        if spelt == wanted:
            return count
        if not wanted.startswith(spelt):
            return 0
    return 0


def _together(text: str, words: Sequence[Word], number: int) -> Word:
    start, end = words[0].start, words[-1].end
    gaps = ["", *(" " * (left.end < right.start) for left, right in pairwise(words))]
    label = "".join(gap + word.text for gap, word in zip(gaps, words, strict=True))
    tokens = {
        encoder: tuple(sorted(index for word in words for index in word.tokens[encoder])) for encoder in words[0].tokens
    }
    return Word(
        label=label if number == 1 else f"{label}#{number}",
        text=text[start:end],
        start=start,
        end=end,
        tokens=tokens,
        content=any(word.content for word in words),
    )
