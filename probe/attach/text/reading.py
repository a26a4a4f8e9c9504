"""The prompts of a generation as its text encoders read them, column by column of the denoiser's text."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from probe.attach.model.families import Family, Stream
from probe.attach.text.alignment import Place, find, kept, matched, merged, mismatch, prompt_of, tokens
from probe.attach.text.hearing import Encoded, Heard
from probe.attach.text.quoting import letters, unplaced
from probe.errors import ProbeWarning
from probe.words import Prompt, Token

Text = tuple[tuple[Token, ...], tuple[Token, ...]]  # all tokens of a text, and the columns that the denoiser sees


class PromptReader:
    """Reads what was heard. Each heard row is used once, so that equal texts find rows of their own."""

    def __init__(self, pipe: Any, family: Family, encoded: Encoded):
        self._pipe, self._family, self._encoded = pipe, family, encoded
        self._free = list(encoded.heard)
        self._heads: dict[str, tuple[int, ...]] = {}  # what stands before the prompt, by encoder

    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts. Raises RecordingError for one that an encoder did not read.

        Warns of words that were truncated, and of words that share a token.
        """
        read = tuple(self._prompt("cond", i, strict=True) for i in range(len(self._encoded.prompts)))
        found = tuple(prompt for prompt in read if prompt is not None)
        for prompt in found:
            if prompt.notice:
                cut = f"the end of {prompt.text[:80]!r} was truncated: {prompt.notice}"
                warnings.warn(cut, ProbeWarning, stacklevel=2)
            if prompt.shared:
                warnings.warn(
                    f"words of {prompt.text[:80]!r} share a token: {prompt.shared}", ProbeWarning, stacklevel=2
                )
        return found

    def others(self) -> tuple[Prompt | None, ...]:
        """The negative or empty prompts beside them, one for all or for each; None where no encoder read one.

        Raises RecordingError where an encoder read letters that no prompt has in quotation marks.
        """
        found = tuple(self._prompt("other", i, strict=False) for i in range(len(self._encoded.prompts)))
        unread = {row.encoder for row in self._free} & {s.encoder for s in self._family.streams if s.quoted}
        if unread:
            raise unplaced(unread.pop())
        alone = all(len(said) == 1 for said in self._encoded.texts["other"].values())
        return tuple(prompt or found[0] for prompt in found) if alone else found

    def _prompt(self, side: str, index: int, *, strict: bool) -> Prompt | None:
        by_text: dict[str, dict[str, Text]] = {}
        for stream in dict.fromkeys(self._family.streams):
            for encoder, tokenizer in self._encoders(stream):
                said = self._encoded.texts[side].get(encoder)
                if said is None:
                    continue
                text = said[index % len(said)]
                read = self._read(stream, encoder, tokenizer, (side, text, index), strict=strict)
                if read is not None:
                    by_text.setdefault(text, {})[encoder] = read
        prompts = [self._joined(text, found) for text, found in by_text.items()]
        whole = prompts[0] if prompts else None
        for prompt in prompts[1:]:
            whole = prompt if whole is None else merged(whole, prompt)
        return whole

    def _joined(self, text: str, found: dict[str, Text]) -> Prompt:
        whole = {encoder: both[0] for encoder, both in found.items()}
        return prompt_of(text, whole, {encoder: both[1] for encoder, both in found.items()})

    def _encoders(self, stream: Stream) -> Iterator[tuple[str, Any]]:
        """The encoders of a stream that this pipeline has, with their tokenizers, alone or as a part of a processor."""
        for encoder, name in ((stream.encoder, stream.tokenizer), *stream.beside):
            names = (name, name.replace("tokenizer", "processor"))
            tokenizer = next(
                (own for own in (getattr(self._pipe, each, None) for each in names) if own is not None), None
            )
            if tokenizer is not None and getattr(self._pipe, encoder, None) is not None:
                yield encoder, tokenizer

    def _read(
        self, stream: Stream, encoder: str, tokenizer: Any, asked: tuple[str, str, int], *, strict: bool
    ) -> Text | None:
        side, text, index = asked
        rows = [row for row in self._encoded.heard if row.encoder == encoder]
        free = [row for row in self._free if row.encoder == encoder]
        if stream.quoted:
            return self._quoted(text, stream, tokenizer, free)
        head = self._heads.get(encoder, ())
        places = find(text, encoder, tokenizer, free, head=head)
        if not places and strict:
            places = find(text, encoder, tokenizer, rows, head=head)
        if not places:
            if strict:
                raise mismatch(text, encoder, tokenizer, rows)
            return None
        place = places[0]
        self._claim(place.row)
        self._heads.setdefault(encoder, place.row.ids[: place.start])
        return place.whole, tokens(place, self._columns(stream, place, side, index), tokenizer)

    def _quoted(self, text: str, stream: Stream, tokenizer: Any, rows: Sequence[Heard]) -> Text | None:
        """What an encoder of letters read of a text, if it has any in quotation marks."""
        for row in rows:
            found = letters(text, row, tokenizer, stream.quoted)
            if found is not None:
                self._claim(row)
                return found
        return None

    def _columns(self, stream: Stream, place: Place, side: str, index: int) -> Sequence[int]:
        """The positions of what was read that make the columns.

        A tail is looked for by content: what stands around a prompt may be cut out of it, or put before it.
        """
        encoder, states = place.row.encoder, self._state(side, index)
        if stream.keeps == "tail" and states is not None:
            rows = [row for row in self._encoded.heard if row.encoder == encoder]
            number = next(i for i, row in enumerate(rows) if row is place.row)
            layers = self._encoded.given.get(encoder, ())
            found = matched(states, layers[number]) if number < len(layers) else None
            if found is not None:
                return found
        length = self._length(stream, side, index, len(place.row.ids))
        return kept(stream, place.attended, length, stream.dropped(self._pipe))

    def _claim(self, row: Heard) -> None:
        position = next((i for i, free in enumerate(self._free) if free is row), None)
        if position is not None:
            del self._free[position]

    def _length(self, stream: Stream, side: str, index: int, read: int) -> int:
        """Columns of a stream: those of the states that the pipeline made of it, if it is the only one."""
        states = self._state(side, index)
        if stream.length is not None or len(self._family.streams) > 1 or states is None:
            return stream.length or read
        return len(states)

    def _state(self, side: str, index: int) -> Tensor | None:
        """The states [t, c] that the pipeline made of a text."""
        rows: Sequence[Tensor] = self._encoded.states.get(side, ())
        prompts = max(1, len(self._encoded.prompts))
        return rows[min(index * (len(rows) // prompts), len(rows) - 1)] if rows else None
