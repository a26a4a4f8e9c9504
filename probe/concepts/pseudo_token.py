"""Saying what no word says: a vector of our own at the place of one token, in every text encoder of a pipeline.

The vocabulary is not resized and no weight is touched. A symbol stands in the prompt where the vector belongs, and a
hook on the token embedding gives the vector instead of the symbol's own; when the block ends the hook is gone.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.borrow import here
from probe.errors import BadPrompt, RecordingError, UnknownFamily
from probe.words import held

SYMBOLS = ("*", "&", "+", "~", "x", "z", "q")
ARTICLES = ("a", "an", "the")
Vectors = Mapping[str, Tensor]  # by encoder: [b, channel], one for all prompts or one for each


@dataclass(frozen=True)
class Encoder:
    """A text encoder with the tokenizer that feeds it."""

    name: str
    module: Any  # a transformers model
    tokenizer: Any

    @property
    def table(self) -> nn.Embedding:
        """The token embedding."""
        return self.module.get_input_embeddings()

    def embeddings(self) -> list[nn.Embedding]:
        """Every module that reads the table: some encoders hold the same weights twice."""
        weights = self.table.weight.data_ptr()
        return [m for m in self.module.modules() if isinstance(m, nn.Embedding) and m.weight.data_ptr() == weights]

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def encoders(pipe: Any) -> tuple[Encoder, ...]:
    """The text encoders that a pipeline has. Raises UnknownFamily if it has none."""
    found = []
    for name, module in pipe.components.items():
        tokenizer = pipe.components.get(name.replace("text_encoder", "tokenizer"))
        if "text_encoder" in name and isinstance(module, nn.Module) and tokenizer is not None:
            found.append(Encoder(name, module, held(tokenizer)))
    if not found:
        raise UnknownFamily(
            f"{type(pipe).__name__} has no text encoder with a tokenizer; its parts are "
            f"{', '.join(sorted(pipe.components))}. A concept can be learned only where a prompt is read as tokens"
        )
    return tuple(found)


def check_expressible(prompt: str, heard: Iterable[Encoder]) -> str:
    """The prompt, stripped. Raises BadPrompt where an encoder's tokenizer has no tokens for it."""
    text = prompt.strip()
    for encoder in heard:
        ids, unknown = encoder.ids(text), encoder.tokenizer.unk_token_id
        if not any(i != unknown and encoder.tokenizer.decode([i]).strip() for i in ids):
            raise BadPrompt(
                f"{prompt!r} cannot be expressed by the tokenizer of {encoder.name}: it gives "
                f"{'unknown tokens only' if ids else 'no tokens'}. Name the concept in words that the model was "
                "trained on, for example: an animal"
            )
    return text


def own_words(prompt: str) -> list[str]:
    """The words of a concept's prompt without its article, in lower case."""
    words = prompt.casefold().split()
    return words[1:] if len(words) > 1 and words[0] in ARTICLES else words


def blank(prompt: str, template: str, symbol: str) -> str:
    """The template with the symbol where the concept was, under the concept's article if it has one."""
    words = prompt.split()
    article = len(words) > 1 and words[0].casefold() in ARTICLES
    return template.format(f"a {symbol}" if article else symbol)


@dataclass(frozen=True)
class Gap:
    """A prompt with a gap: the text with the symbol, and the symbol's token in each encoder."""

    text: str
    tokens: Mapping[str, int]


def gap(prompt: str, template: str, heard: Iterable[Encoder]) -> Gap:
    """The prompt with a gap. Raises BadPrompt if no symbol is one token that stands there once, in all encoders."""
    heard = tuple(heard)
    if template.count("{}") != 1:
        raise BadPrompt(
            f"the template {template!r} has {template.count('{}')} places for the concept, expected one {{}}"
        )
    for symbol in SYMBOLS:
        text, other = (blank(prompt, template, each) for each in (symbol, "y"))
        tokens = {encoder.name: _token(encoder, text, other) for encoder in heard}
        found = {name: token for name, token in tokens.items() if token is not None}
        if len(found) == len(heard):
            return Gap(text, found)
    raise BadPrompt(
        f"the template {template!r} leaves no symbol of {' '.join(SYMBOLS)} that is one token in every text encoder; "
        "take another template, with {} between blanks"
    )


def _token(encoder: Encoder, text: str, other: str) -> int | None:
    """The one token by which a text differs from another, if it is one, is known, and stands there once."""
    ids, others = encoder.ids(text), encoder.ids(other)
    if len(ids) != len(others):
        return None
    different = [token for token, beside in zip(ids, others, strict=True) if token != beside]
    known = len(different) == 1 and different[0] != encoder.tokenizer.unk_token_id
    return different[0] if known and ids.count(different[0]) == 1 else None


@contextmanager
def filled(hole: Gap, heard: Iterable[Encoder], vectors: Vectors) -> Iterator[None]:
    """Every prompt with the gap that is encoded in the block has the vectors there.

    Raises RecordingError if an encoder was not asked for the gap at all: the vectors then had no effect.
    """
    heard = tuple(heard)
    reached: dict[str, int] = dict.fromkeys((encoder.name for encoder in heard), 0)
    with ExitStack() as stack:
        for encoder in heard:
            hook = partial(_fill, hole.tokens[encoder.name], vectors[encoder.name], reached, encoder.name)
            for table in encoder.embeddings():
                stack.callback(table.register_forward_hook(here(hook)).remove)
        yield
    silent = [name for name, count in reached.items() if not count]
    if silent:
        raise RecordingError(
            f"{', '.join(silent)} never read the symbol of {hole.text!r}, so the concept had no effect: "
            "use the prompt that the block gives, inside the block"
        )


def _fill(
    token: int, vector: Tensor, reached: dict[str, int], name: str, table: nn.Module, args: Any, output: Tensor
) -> Tensor:
    places = args[0] == token  # [b, t]
    if not bool(places.any()):
        return output
    reached[name] += 1
    rows = vector.to(output)  # [1 or b, channel]
    rows = rows if len(rows) in (1, len(output)) else rows.repeat_interleave(len(output) // len(rows), 0)
    return torch.where(places[..., None], rows[:, None], output)
