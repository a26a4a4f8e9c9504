"""Tokenizers written in Python (Kolors' ChatGLM, ByT5): they do not say which characters a token covers.

So a token is looked for as what it decodes to, from the end of the one before on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

SPACE = "▁ "  # what stands for a space in a piece
LONGEST_LETTER = 4  # bytes, of which each may be a token


@dataclass(frozen=True)
class Spelt:
    """One text as such a tokenizer reads it; see `probe.words.table.Encoding`."""

    ids: Sequence[int]
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]]
    special_tokens_mask: Sequence[int]
    attention_mask: Sequence[int]


def spell(tokenizer: Any, text: str, ids: Sequence[int], attended: Sequence[int]) -> Spelt:
    """The encoding of a text that was read as these ids, some of which the tokenizer has put around its own."""
    own = list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
    start, count = _longest(ids, own)
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    inside = offsets(text, tokens[start : start + count], tokenizer.convert_tokens_to_string)
    places = [(0, 0)] * start + inside + [(0, 0)] * (len(ids) - start - count)
    special = [int(not start <= index < start + count) for index in range(len(ids))]
    return Spelt(list(ids), tokens, places, special, list(attended))


def _longest(ids: Sequence[int], own: Sequence[int]) -> tuple[int, int]:
    """Where most of the first of a text's own ids stand, and how many; the row may be cut."""
    best = max(range(len(ids)), key=lambda start: common(ids[start:], own), default=0)
    return best, common(ids[best:], own)


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many items two sequences share from their start."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def offsets(text: str, pieces: Sequence[str], decode: Callable[[list[str]], str]) -> list[tuple[int, int]]:
    """The characters that each piece covers, without spaces; pieces that make one letter together cover it all.

    A piece that is not found, as one of an unknown letter, covers nothing.
    """
    letters = [(small, i) for i, letter in enumerate(text) for small in normalize("NFKC", letter) if small.strip()]
    row = "".join(small for small, _ in letters)
    found: list[tuple[int, int]] = []
    parts: list[str] = []
    cursor = 0
    for piece in pieces:
        parts.append(piece)
        said = normalize("NFKC", decode(list(parts)))
        if len(parts) < LONGEST_LETTER and ("\ufffd" in said or (not said and piece.strip(SPACE))):
            continue
        body = "".join(said.split())
        place = row.find(body, cursor) if body else -1
        if place >= 0:
            cursor = place + len(body)
        span = (letters[place][1], letters[cursor - 1][1] + 1) if place >= 0 else (0, 0)
        found += [span] * len(parts)
        parts.clear()
    return found + [(0, 0)] * len(parts)
