"""Letters to be drawn: what stands in quotation marks, as an encoder reads it that reads nothing else of a prompt.

Pipelines make a text of their own of it, which differs from one to the next; so the quoted parts are looked for in what
was read, and all around them is special.
"""

import re
from typing import Any

from probe.attach.text.hearing import Heard
from probe.errors import RecordingError
from probe.words import Token
from probe.words.segment import Span

MARKS = (r"'(.+?)'", r'"(.+?)"', "‘(.+?)’", "“(.+?)”")


def letters(text: str, row: Heard, tokenizer: Any) -> tuple[Token, ...] | None:
    """The tokens of a row that holds quoted parts of a text; None if it holds none of them.

    A token is a character, or one of the bytes of it. Of a part that the end of the row cuts off the first are there.
    """
    owners: dict[int, Span] = {}
    for part in quoted(text):
        owners |= _placed(text, part, row, tokenizer, after=max(owners, default=-1) + 1)
    if not owners:
        return None
    attended = row.attended or (True,) * len(row.ids)
    pieces, first = tokenizer.convert_ids_to_tokens(list(row.ids)), min(owners)
    made: list[Token] = []
    for i, number in enumerate(row.ids):
        around = ("<start>" if i < first else "<end>") if attended[i] else "<padding>"
        span, special = (owners[i], None) if i in owners else (Span(0, 0), around)
        piece = str(pieces[i]) if special else text[span.start : span.end]
        made.append(
            Token(encoder=row.encoder, index=i, id=number, text=piece, start=span.start, end=span.end, special=special)
        )
    return tuple(made)


def quoted(text: str) -> list[Span]:
    """The parts of a text in quotation marks, those of one kind of marks after those of another."""
    return [Span(*found.span(1)) for marks in MARKS for found in re.finditer(marks, text)]


def _placed(text: str, part: Span, row: Heard, tokenizer: Any, *, after: int) -> dict[int, Span]:
    """position in the row -> the character that is read there; the first place behind `after`, or else of all."""
    read = [(i, Span(at, at + 1)) for at in range(*part) for i in _ids(text[at], tokenizer)]
    wanted, last = tuple(i for i, _ in read), len(row.ids) - 1  # which ends every row that was cut off
    for start in (*range(after, last), *range(after)):
        seen = row.ids[start : min(start + len(wanted), last)]
        if wanted[: len(seen)] == seen and (len(seen) == len(wanted) or start + len(seen) == last):
            return {start + i: span for i, (_, span) in enumerate(read[: len(seen)])}
    return {}


def _ids(character: str, tokenizer: Any) -> list[int]:
    return tokenizer(character, add_special_tokens=False).input_ids


def unplaced(encoder: str) -> RecordingError:
    """The error for letters that were read and are in no prompt."""
    return RecordingError(
        f"{encoder} read letters to be drawn that no prompt has in quotation marks, so its columns cannot be told from "
        'those of other words; write them in the prompt itself, in "straight" or in “curly” marks'
    )
