"""Where the words of a prompt are among the ids that an encoder really read.

Templates, instructions and cleaning differ from pipeline to pipeline and from version to version, so none is copied
here: the prompt's own tokens are looked for in what was heard, and what stands around them is special.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.attach.model.families import Stream
from probe.attach.text.hearing import Heard
from probe.errors import RecordingError
from probe.words import Prompt, Token, Word, held, read_negative
from probe.words.slow import common
from probe.words.table import cut, join

LEADS = ("", " ", "\n")  # what may stand right before a prompt inside a template, and change its first token
SURE = 4  # tokens at the end of a row that are no chance: the rest was cut off
SHOWN = 8  # ids in a message
RTOL, ATOL = 1e-3, 1e-5  # states of the very same layer


@dataclass(frozen=True)
class Place:
    """A prompt's tokens in a row: from `start` on, `tokens` of its `whole` ones; `surplus` others are attended to."""

    row: Heard
    start: int
    tokens: tuple[Token, ...]
    whole: tuple[Token, ...]
    attended: tuple[bool, ...]

    @property
    def surplus(self) -> int:
        return sum(self.attended) - len(self.tokens)


def find(text: str, encoder: str, tokenizer: Any, rows: Sequence[Heard], *, head: tuple[int, ...] = ()) -> list[Place]:
    """The rows that hold a text, best first: those with all of it, then those with least around it.

    `head` are the ids that stand before another text of the same encoder: an empty one has its place behind them.
    """
    found: list[Place] = []
    for body, front in _bodies(text, encoder, tokenizer):
        for row in rows:
            place = _place(row, body, len(head) if head and row.ids[: len(head)] == head else front, tokenizer)
            if place is not None and place.row not in [other.row for other in found]:
                found.append(place)
    return sorted(found, key=lambda place: (len(place.whole) - len(place.tokens), place.surplus))


def _bodies(text: str, encoder: str, tokenizer: Any) -> Iterator[tuple[tuple[Token, ...], int]]:
    """The text's own tokens, read in the ways in which pipelines clean and embed it, and how many stand before."""
    seen: set[tuple[int, ...]] = set()
    for characters in _spellings(text):
        spelt = "".join(letter for letter, _ in characters)
        places = [place for _, place in characters]
        for lead in LEADS:
            read = read_negative(spelt, {encoder: tokenizer}, templates={encoder: lead + "{}"}).tokens
            body = tuple(_moved(token, places) for token in read if token.special is None)
            ids = tuple(token.id for token in body)
            if ids not in seen:
                seen.add(ids)
                yield body, sum(token.special == "<start>" for token in read)


def _spellings(text: str) -> list[list[tuple[str, int]]]:
    """The different texts that pipelines make of one, with the place of each character in the original."""
    plain = [(letter, place) for place, letter in enumerate(text)]
    lower = [(small, place) for letter, place in plain for small in letter.lower()]
    clean = ((c, _stripped(c), _single_spaced(c)) for c in (plain, lower))
    different = {"".join(letter for letter, _ in characters): characters for three in clean for characters in three}
    return list(different.values())


def _stripped(characters: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    inside = [index for index, (letter, _) in enumerate(characters) if not letter.isspace()]
    return list(characters[inside[0] : inside[-1] + 1]) if inside else []


def _single_spaced(characters: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    kept: list[tuple[str, int]] = []
    for letter, place in characters:
        if not letter.isspace():
            kept.append((letter, place))
        elif kept and kept[-1][0] != " ":
            kept.append((" ", place))
    return kept[:-1] if kept and kept[-1][0] == " " else kept


def _moved(token: Token, places: Sequence[int]) -> Token:
    """A token of a cleaned text, in characters of the original."""
    if token.start >= token.end:
        return token
    return token.model_copy(update={"start": places[token.start], "end": places[token.end - 1] + 1})


def _place(row: Heard, body: tuple[Token, ...], front: int, tokenizer: Any) -> Place | None:
    """Where a row holds the tokens; a row that ends inside of them holds the first ones."""
    inner = held(tokenizer)
    if not body:
        return Place(row, front, (), (), _attended(row, front, front, inner))
    ids, wanted = row.ids, [token.id for token in body]
    best = max(range(len(ids)), key=lambda start: common(ids[start : start + len(wanted)], wanted))
    count = common(ids[best : best + len(wanted)], wanted)
    if count == len(wanted) or (count >= SURE and best + count >= len(ids) - 1):
        return Place(row, best, body[:count], body, _attended(row, best, best + count, inner))
    return None


def _attended(row: Heard, start: int, stop: int, tokenizer: Any) -> tuple[bool, ...]:
    """Which positions are no padding: by the encoder's mask, or else by the padding's id around the text."""
    if row.attended is not None:
        return row.attended
    pad, first, last = tokenizer.pad_token_id, 0, len(row.ids)
    while first < start and row.ids[first] == pad != tokenizer.bos_token_id:
        first += 1
    end = stop + (stop < last and row.ids[stop] == tokenizer.eos_token_id)
    while last > end and row.ids[last - 1] == pad:
        last -= 1
    return tuple(first <= i < last for i in range(len(row.ids)))


def kept(stream: Stream, attended: Sequence[bool], length: int, drop: int = 0) -> list[int]:
    """The positions of a row that go on to the denoiser as its `length` columns."""
    count = len(attended)
    if stream.keeps == "attended":
        return [i for i, seen in enumerate(attended) if seen][drop:][:length]
    if stream.keeps == "tail":
        return list(range(max(0, count - length), count))
    if stream.keeps == "first and tail":
        return [0, *range(max(0, count - length) + 1, count)]
    return list(range(count))[drop:][:length]


def matched(states: Tensor, layers: Sequence[Tensor]) -> list[int] | None:
    """The position of each of the states [n, c] in what their encoder gave, [t, c] of a layer that holds them all."""
    for layer in (layer for layer in layers if layer.shape[-1] == states.shape[-1]):
        ours, given = states.to(layer).float(), layer.float()
        near = RTOL * ours.norm(dim=-1) + ATOL
        if bool(((given - ours[0]).norm(dim=-1) <= near[0]).any()):
            apart, places = torch.cdist(ours, given, compute_mode="donot_use_mm_for_euclid_dist").min(-1)
            if bool((apart <= near).all()):
                return places.tolist()
    return None


def tokens(place: Place, columns: Sequence[int], tokenizer: Any) -> tuple[Token, ...]:
    """The tokens of the columns, numbered as columns."""
    inner = held(tokenizer)
    pieces = inner.convert_ids_to_tokens(list(place.row.ids))
    stop = place.start + len(place.tokens)
    row = []
    for index, position in enumerate(columns):
        if place.start <= position < stop:
            row.append(place.tokens[position - place.start].model_copy(update={"index": index, "word": None}))
            continue
        special = around(place.attended[position], before=position < place.start)
        row.append(outside(place.row, position, str(pieces[position]), special).model_copy(update={"index": index}))
    return tuple(row)


def around(attended: bool, *, before: bool) -> str:
    """The name of a position that holds nothing of a text."""
    if not attended:
        return "<padding>"
    return "<start>" if before else "<end>"


def outside(row: Heard, position: int, piece: str, special: str) -> Token:
    """The token of such a position, of the encoder's own numbering."""
    number = row.ids[position]
    return Token(encoder=row.encoder, index=position, id=number, text=piece, start=0, end=0, special=special)


def prompt_of(text: str, whole: Mapping[str, Sequence[Token]], read: Mapping[str, Sequence[Token]]) -> Prompt:
    """The prompt whose tokens were placed; `whole` are the tokens that it would have without a limit."""
    spans = cut(text, whole)
    words, joined = join(text, spans, read)
    full = join(text, spans, whole)[0]
    fallen = {encoder: _fallen(words, full, encoder) for encoder in read}
    lengths = {encoder: len(row) for encoder, row in read.items()}
    return Prompt(text=text, words=words, tokens=joined, lengths=lengths, fallen=fallen)


def _fallen(words: Sequence[Word], full: Sequence[Word], encoder: str) -> tuple[str, ...]:
    """Labels of the words of which an encoder's columns hold less than all."""
    pairs = zip(words, full, strict=True)
    return tuple(word.label for word, all_ in pairs if len(word.tokens[encoder]) < len(all_.tokens[encoder]))


def merged(first: Prompt, second: Prompt) -> Prompt:
    """Two prompts that are read by different encoders, as one: words of the same label are one word."""
    extra = {word.label: word for word in second.words}
    words = [w.model_copy(update={"tokens": w.tokens | _tokens(extra.pop(w.label, None))}) for w in first.words]
    return first.model_copy(
        update={
            "words": (*words, *extra.values()),
            "tokens": (*first.tokens, *second.tokens),
            "lengths": first.lengths | second.lengths,
            "fallen": first.fallen | second.fallen,
        }
    )


def _tokens(word: Word | None) -> dict[str, tuple[int, ...]]:
    return {} if word is None else word.tokens


def mismatch(text: str, encoder: str, tokenizer: Any, rows: Sequence[Heard]) -> RecordingError:
    """The error for a prompt that no row of an encoder holds: it names the first difference."""
    body, _ = next(_bodies(text, encoder, tokenizer))
    inner = held(tokenizer)
    wanted = [token.id for token in body]
    if not rows:
        return RecordingError(f"{encoder} read nothing, though {text!r} was to be encoded; was it given as embeddings?")
    ids = rows[0].ids
    start = max(range(len(ids)), key=lambda i: common(ids[i : i + len(wanted)], wanted))
    place = common(ids[start : start + len(wanted)], wanted)
    read, said = ids[start + place : start + place + SHOWN], wanted[place : place + SHOWN]
    return RecordingError(
        f"{encoder} did not read {text!r} as its tokenizer does: {place} of {len(wanted)} tokens agree, then it read "
        f"{inner.convert_ids_to_tokens(list(read))} and not {inner.convert_ids_to_tokens(said)}. The labels would be "
        "wrong. Switch off what rewrites the prompt (clean_caption, prompt enhancement, textual inversion), or give "
        "the rewritten prompt"
    )
