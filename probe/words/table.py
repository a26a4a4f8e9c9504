"""From the offset mappings of tokenizers to a table of words and tokens. No string is ever searched for."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from probe.errors import BadPrompt
from probe.words.model import Token, Word
from probe.words.segment import Span, is_content, labels, segment

LONGEST = 20_000  # characters; no encoder reads as many


class Encoding(Protocol):
    """What a tokenizer gives for one text, as `tokenizers.Encoding` does; offsets are in characters."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def tokens(self) -> Sequence[str]: ...
    @property
    def offsets(self) -> Sequence[tuple[int, int]]: ...
    @property
    def special_tokens_mask(self) -> Sequence[int]: ...
    @property
    def attention_mask(self) -> Sequence[int]: ...


def word_table(prompt: str, encodings: Mapping[str, Encoding]) -> tuple[tuple[Word, ...], tuple[Token, ...]]:
    """The words of a prompt and the tokens of every encoder, from the encoding of the bare prompt by each.

    A token belongs to the word with which it shares most characters, or to none. Raises BadPrompt for a blank prompt.
    """
    check_prompt(prompt)
    tokens = {name: lay(prompt, name, encoding, Span(0, len(prompt))) for name, encoding in encodings.items()}
    return join(prompt, cut(prompt, tokens), tokens)


def check_prompt(prompt: object) -> str:
    """The prompt, if it is text that can be read. Raises BadPrompt."""
    text = check_text(prompt)
    if not text.strip():
        raise BadPrompt(f"the prompt is blank ({text!r}); say what the picture should show, e.g. 'a cat'")
    return text


def check_text(prompt: object) -> str:
    """The text, which may be blank. Raises BadPrompt if it is something else, or too long."""
    if not isinstance(prompt, str):
        raise BadPrompt(f"a prompt is one text (str), not {type(prompt).__name__}; read several prompts one by one")
    if len(prompt) > LONGEST:
        raise BadPrompt(f"the prompt has {len(prompt):,} characters; at most {LONGEST:,} are read: shorten it")
    halves = [index for index, letter in enumerate(prompt) if "\ud800" <= letter <= "\udfff"]
    if halves:
        raise BadPrompt(f"character {halves[0]} of the prompt is half a surrogate pair, not text; remove or decode it")
    return prompt


def lay(text: str, encoder: str, encoding: Encoding, place: Span, *, front: int = 0) -> tuple[Token, ...]:
    """The tokens of one encoder, laid over the prompt, which is `text[place.start:place.end]`.

    What is added around the prompt is special: <start> before it, <end> after it, <padding> where nothing is attended
    to. `front` says how many specials stand before the prompt where that cannot be seen: when all of `text` is blank.
    """
    encoding = _copied(encoding)
    names = _specials(encoding, place, front)
    return tuple(
        Token(encoder=encoder, index=index, id=encoding.ids[index], special=name, text=piece, start=start, end=end)
        for index, name in enumerate(names)
        for piece, start, end in [_piece(text, encoding, index, place if name is None else None)]
    )


class _Copy(NamedTuple):
    """The lists of an encoding: a `tokenizers.Encoding` builds them anew each time that it is asked."""

    ids: Sequence[int]
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]]
    special_tokens_mask: Sequence[int]
    attention_mask: Sequence[int]


def _copied(encoding: Encoding) -> _Copy:
    return _Copy(*(getattr(encoding, name) for name in _Copy._fields))


def _specials(encoding: Encoding, place: Span, front: int) -> list[str | None]:
    """The special name of every position; None for tokens of the prompt."""
    attended = [index for index, seen in enumerate(encoding.attention_mask) if seen]
    bodies = (i for i in attended if _length(encoding, i) and encoding.offsets[i][1] > place.start)
    first = next(bodies, attended[front] if front < len(attended) else len(encoding.ids))
    around = ["<start>" if index < first else "<end>" for index in range(len(encoding.ids))]
    seen = set(attended)
    return [_special(encoding, i, place, around[i]) if i in seen else "<padding>" for i in range(len(encoding.ids))]


def _special(encoding: Encoding, index: int, place: Span, around: str) -> str | None:
    start, end = encoding.offsets[index]
    if start == end:
        return around if encoding.special_tokens_mask[index] else None
    return around if end <= place.start or start >= place.end else None


def _length(encoding: Encoding, index: int) -> int:
    start, end = encoding.offsets[index]
    return end - start


def _piece(text: str, encoding: Encoding, index: int, place: Span | None) -> tuple[str, int, int]:
    """Text, start and end of one token; the ends are in characters of the prompt, without the spaces around."""
    start, end = encoding.offsets[index]
    if place is None:
        return (text[start:end] or encoding.tokens[index]), 0, 0
    start, end = max(start, place.start), min(end, place.end)
    body = text[start:end]
    if body.strip():
        start, end = start + len(body) - len(body.lstrip()), end - len(body) + len(body.rstrip())
    return text[start:end], start - place.start, end - place.start


def cut(prompt: str, tokens: Mapping[str, Iterable[Token]]) -> tuple[Span, ...]:
    """The words of a prompt; those that touch are one where every encoder reads across their border in one token."""
    ranges = [[(t.start, t.end) for t in row if t.special is None and t.start < t.end] for row in tokens.values()]
    across = [{place for start, end in row for place in range(start + 1, end)} for row in ranges]
    reached = [{place for start, end in row for place in range(start, end + 1)} for row in ranges]
    spans: list[Span] = []
    for span in segment(prompt):
        voices = [span.start in inside for inside, all_ in zip(across, reached, strict=True) if span.start in all_]
        if spans and spans[-1].end == span.start and voices and all(voices):
            spans[-1] = Span(spans[-1].start, span.end)
        else:
            spans.append(span)
    return tuple(spans)


def join(
    prompt: str, spans: Sequence[Span], tokens: Mapping[str, Iterable[Token]]
) -> tuple[tuple[Word, ...], tuple[Token, ...]]:
    """Words and tokens that know each other."""
    texts = [prompt[slice(*span)] for span in spans]
    named = labels(texts)
    places: list[dict[str, list[int]]] = [{encoder: [] for encoder in tokens} for _ in spans]
    joined: list[Token] = []
    for token in (token for row in tokens.values() for token in row):
        owner = _owner(token, spans)
        if owner is not None:
            places[owner][token.encoder].append(token.index)
        joined.append(token.model_copy(update={"word": None if owner is None else named[owner]}))
    words = tuple(
        Word(label=label, text=text, start=span.start, end=span.end, tokens=_frozen(place), content=is_content(text))
        for label, text, span, place in zip(named, texts, spans, places, strict=True)
    )
    return words, tuple(joined)


def _owner(token: Token, spans: Sequence[Span]) -> int | None:
    """The span with which a token shares most characters, the first of equals; None if it shares none."""
    if token.special is not None:
        return None
    best, most = None, 0
    for index in range(bisect_right(spans, token.start, key=lambda span: span.end), len(spans)):
        if spans[index].start >= token.end:
            break
        shared = min(token.end, spans[index].end) - max(token.start, spans[index].start)
        best, most = (index, shared) if shared > most else (best, most)
    return best


def _frozen(places: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    return {encoder: tuple(indices) for encoder, indices in places.items()}
