"""Which columns of the text make which word."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.attach.model.families import Family
from probe.axes import SPECIAL
from probe.errors import NoMatch, NoSuchWord
from probe.words import Prompt, find_word, read_negative

PADDING = "<padding>"
IMAGE = "<image>"  # what a cell gives to the picture itself: all but the text
EVERY = "*"  # every word of the prompt, and the special tokens where cells attend to text alone

Places = dict[tuple[str, int], tuple[int, ...]]  # (encoder, position) -> columns


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Which columns make which word, for one prompt: maps = P[:, columns] @ weights + offset."""

    columns: tuple[int, ...]
    labels: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]  # per label: positions in `columns`
    rest: str | None = None  # the label of what all columns leave over
    spare: tuple[int, ...] = ()  # columns of the padding, where that is the rest

    def apart(self) -> "Lexicon":
        """The same where cells ask more than text, so that the padding is not all that words leave over."""
        if self.rest != PADDING:
            return self
        start = len(self.columns)
        padding = tuple(range(start, start + len(self.spare)))
        pairs = zip(self.labels, self.members, strict=True)
        members = tuple(padding if label == PADDING else own for label, own in pairs)
        return Lexicon((*self.columns, *self.spare), self.labels, members)

    def weights(self, device: torch.device, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """(columns [t], [t, w], [w]): sums over each word's columns; the rest is one minus the sum of all.

        Of a text of which only `length` columns take part, words beyond them are NaN.
        """
        w = torch.zeros(len(self.columns), len(self.labels))
        offset = torch.zeros(len(self.labels))
        for i, (label, members) in enumerate(zip(self.labels, self.members, strict=True)):
            w[list(members), i] = 1.0
            if label == self.rest:
                w[:, i], offset[i] = -1.0, 1.0
            elif all(self.columns[member] >= length for member in members):
                offset[i] = torch.nan
        columns = torch.tensor(self.columns, dtype=torch.long)
        there = columns < length
        return columns[there].to(device), w[there].to(device), offset.to(device)


@dataclass(frozen=True)
class Dictionary:
    """A prompt's columns, over all encoders of a family. `starts` say where each encoder's part of the states begins.

    `places` are the columns of each position of an encoder: one, or several where its states are there several times.
    `blank` are the columns behind all that was read: what the pipeline or the denoiser fills the text up with.
    """

    prompt: Prompt
    starts: dict[str, int]
    places: Places
    cross: bool
    blank: range = range(0)

    def lexicon(self, labels: Sequence[str]) -> Lexicon:
        """The lexicon of the labels that this prompt has; what is left over is exact only if all else is read."""
        rest = next((label for label in (PADDING, IMAGE) if label in labels and self.cross == (label == PADDING)), None)
        found = {label: self._columns(label) if label != rest else [] for label in labels}
        wanted = {label: columns for label, columns in found.items() if columns or label == rest}
        columns = dict.fromkeys(column for members in wanted.values() for column in members)
        if rest:
            read = (t for t in self.prompt.tokens if not self.cross or t.special != PADDING)
            columns |= dict.fromkeys(column for t in read for column in self.places.get((t.encoder, t.index), ()))
            columns |= dict.fromkeys(() if self.cross else self.blank)
        place = {column: i for i, column in enumerate(columns)}
        members = tuple(tuple(place[column] for column in found) for found in wanted.values())
        spare = tuple(self._columns(PADDING)) if rest == PADDING else ()
        return Lexicon(tuple(columns), tuple(wanted), members, rest, spare)

    def _columns(self, label: str) -> list[int]:
        """The columns of a label: of one encoder where it says so ("cat@text_encoder_3"), else of all; may be none."""
        name, encoder = parted(label)
        encoders = [encoder] if encoder else list(self.starts)
        if encoder and encoder not in self.starts:
            raise NoMatch(f"{label!r}: no columns belong to {encoder!r}; there are: {', '.join(self.starts)}")
        blank = list(self.blank) if label == PADDING else []
        try:
            word = self.prompt.find(name)
        except NoSuchWord:
            return blank
        return [column for e in encoders for i in word.tokens.get(e, ()) for column in self.places[e, i]] + blank


def dictionary(prompt: Prompt, family: Family, whole: int = 0, lead: int = 0) -> Dictionary:
    """The columns of a prompt: the streams follow one another, and fill the text states, which are `whole` long.

    `lead` tokens of a picture are before a text that is gathered.
    """
    starts: dict[str, int] = {}
    places: Places = {}
    total = 0
    for stream in family.streams:
        encoder = next((e for e in (stream.encoder, *(e for e, _ in stream.beside)) if e in prompt.lengths), None)
        encoder = stream.encoder if encoder is None and stream.quoted else encoder  # it had nothing to read
        if encoder is not None:
            length = prompt.lengths.get(encoder, 0)
            starts.setdefault(encoder, total)
            for i in range(length):
                places[encoder, i] = (*places.get((encoder, i), ()), total + i)
            total += length
    if family.gathered:
        places, total = _gathered(prompt, places, lead), total + lead
    end = total if family.effective else family.filled(max(total, whole))  # what takes no part is no blank
    return Dictionary(prompt, starts, places, family.text == "cross", range(total, end))


def _gathered(prompt: Prompt, places: Places, lead: int) -> Places:
    """The same positions where all that is attended to comes before all padding."""
    padding = {(token.encoder, token.index) for token in prompt.tokens if token.special == PADDING}
    order = sorted(places, key=lambda place: (place in padding, places[place]))
    return {place: (column,) for column, place in enumerate(order, lead)}


def by_word(p: Tensor, weights: Tensor, offset: Tensor, folded: int) -> Tensor:
    """The probability of each word, of that of its columns: [b * f, h, n, t] -> [b, h, w, f * n]."""
    words = (p @ weights + offset).unflatten(0, (-1, folded))  # [b, f, h, n, w]
    return words.permute(0, 2, 4, 1, 3).flatten(3)


def parted(label: str) -> tuple[str, str]:
    """(word, encoder) of "cat@text_encoder_3"; the encoder is empty where none is named."""
    name, at, encoder = label.rpartition("@")
    return (name, encoder) if at and name and "text_encoder" in encoder else (label, "")


def unread(word: str, prompt: Prompt, family: Family) -> NoSuchWord:
    """The error for a word of the prompt of which an encoder that was named, or any, has no columns."""
    name, encoder = parted(word)
    columns, reading = dictionary(prompt, family).starts, [e for e, own in prompt.find(name).tokens.items() if own]
    if not set(columns) & set(reading):
        return NoSuchWord(
            f"{name!r} is read by {', '.join(reading)} alone, which has another text (prompt_2, ...) than "
            f"{', '.join(columns)}, after whose words the columns of {family.name} are named: {prompt.text!r}. "
            "Ask for a word of that, or give both encoders the same text"
        )
    alone = f"ask for {name!r} alone, which is what all encoders read of it, or " if encoder else ""
    return NoSuchWord(
        f"{encoder or 'no encoder'} reads no token of {name!r} where the denoiser does; {alone}put letters that are to "
        "be drawn in quotation marks"
    )


def check_words(words: Sequence[str], prompts: Sequence[str], negatives: Sequence[str] = ()) -> None:
    """Every word must be in one of the prompts, before any work is done. Raises NoSuchWord, which says whether it is
    one of the negative prompts.
    """
    read, further = ([read_negative(text, {}) for text in texts] for texts in (prompts, negatives))
    for word in words:
        name, _ = parted(word)
        if name in (*SPECIAL, IMAGE, EVERY) or not read:
            continue
        absent = [_absent(name, prompt) for prompt in read]
        if all(absent):
            holds = next((prompt.text for prompt in further if not _absent(name, prompt)), None)
            more = f". It is a word of the negative prompt {holds!r}: branches=['cond', 'negative']" if holds else ""
            raise NoSuchWord(f"{absent[-1]}{more}")


def _absent(name: str, prompt: Prompt) -> NoSuchWord | None:
    """Why a name is no word of a prompt; None where it is one."""
    try:
        find_word(prompt.text, prompt.words, name)
    except NoSuchWord as error:
        return error
    return None


def wanted_labels(prompt: Prompt, words: Sequence[str] | None, family: Family) -> tuple[str, ...]:
    """The labels to read for a prompt: those asked for, as the prompt spells them, or its content words."""
    special, every = SPECIAL if family.text == "cross" else (), tuple(w.label for w in prompt.words)
    if words is None:
        return (tuple(w.label for w in prompt.words if w.content) or every) + special
    spelt = [(*every, *special) if word == EVERY else (_spelt(prompt, word),) for word in words]
    return tuple(dict.fromkeys(label for labels in spelt for label in labels))


def _spelt(prompt: Prompt, word: str) -> str:
    name, encoder = parted(word)
    if name in (*SPECIAL, IMAGE):
        return word
    try:
        label = prompt.find(name).label
    except NoSuchWord:
        return word
    return f"{label}@{encoder}" if encoder else label
