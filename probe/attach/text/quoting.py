"""Letters to be drawn: what stands in quotation marks, as an encoder reads it that reads nothing else of a prompt.

Pipelines make a text of their own of it, which differs from one to the next but has each part in straight marks. So the
parts are looked for in what was read, with these marks, and all around them is special.
"""

import re
from collections.abc import Sequence
from typing import Any

from probe.attach.text.alignment import around, outside
from probe.attach.text.hearing import Heard
from probe.errors import RecordingError
from probe.words import Token
from probe.words.segment import Span

MARK = '"'
Spelt = list[tuple[int, Span]]  # ids, each with the character of the prompt that it is of
Letters = tuple[tuple[Token, ...], tuple[Token, ...]]  # all tokens of the parts, and those of a row that holds them


def letters(text: str, row: Heard, tokenizer: Any, marks: Sequence[str]) -> Letters | None:
    """The quoted parts of a text as a row holds them; None if it is not of this text.

    A token is a character, or one of the bytes of it. A part that the end of the row cuts off is not whole there.
    """
    owners: dict[int, Span] = {}
    whole: Spelt = []
    said: set[str] = set()
    for part in quoted(text, marks):
        words = text[part.start : part.end]
        spelt = _spelt(text, part, tokenizer)
        found = _placed(spelt, row.ids, owners, _ids(MARK, tokenizer))
        owners |= found
        whole += spelt if found or words not in said else []  # some pipelines say equal parts once
        said.add(words)
    if not said or (whole and not owners):
        return None
    every = tuple(_token(row, text, i, number, span) for i, (number, span) in enumerate(whole))
    return every, _tokens(text, row, owners, tokenizer)


def quoted(text: str, marks: Sequence[str]) -> list[Span]:
    """The parts of a text between pairs of marks, those of one pair after those of another; some may be empty."""
    pairs = (f"{re.escape(first)}(.*?){re.escape(last)}" for first, last in marks)
    return [Span(*found.span(1)) for pair in pairs for found in re.finditer(pair, text)]


def _spelt(text: str, part: Span, tokenizer: Any) -> Spelt:
    return [(number, Span(at, at + 1)) for at in range(*part) for number in _ids(text[at], tokenizer)]


def _ids(character: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(character, add_special_tokens=False).input_ids)


def _placed(spelt: Spelt, ids: Sequence[int], taken: dict[int, Span], mark: tuple[int, ...]) -> dict[int, Span]:
    """Position in the row -> the character that is read there, at the first place between marks that is not taken."""
    wanted, last = (*mark, *(number for number, _ in spelt), *mark), len(ids) - 1  # an end, where a row was cut off
    for start in range(last):
        stop, first = min(start + len(wanted), last), start + len(mark)
        fits = tuple(ids[start:stop]) == wanted[: stop - start] and stop in (start + len(wanted), last)
        if fits and stop > first and first not in taken:
            return {first + i: span for i, (_, span) in enumerate(spelt[: stop - first])}
    return {}


def _tokens(text: str, row: Heard, owners: dict[int, Span], tokenizer: Any) -> tuple[Token, ...]:
    """A token for every position of a row: a character of the text, or a special one."""
    attended = row.attended or (True,) * len(row.ids)
    pieces, first = tokenizer.convert_ids_to_tokens(list(row.ids)), min(owners, default=len(row.ids))
    return tuple(
        _token(row, text, i, row.ids[i], owners[i])
        if i in owners
        else outside(row, i, str(pieces[i]), around(attended[i], before=i < first))
        for i in range(len(row.ids))
    )


def _token(row: Heard, text: str, index: int, number: int, span: Span) -> Token:
    piece = text[span.start : span.end]
    return Token(encoder=row.encoder, index=index, id=number, text=piece, start=span.start, end=span.end)


def unplaced(encoder: str) -> RecordingError:
    """The error for letters that were read and are in no prompt."""
    return RecordingError(
        f"{encoder} read letters to be drawn that no prompt has in quotation marks, so its columns cannot be told from "
        'those of other words; write them in the prompt itself, in "straight" or in “curly” marks'
    )
