"""A concept said by a pipeline."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from probe.concepts.concept import Concept
from probe.concepts.pseudo_token import Encoder, encoders, filled, gap
from probe.concepts.vocabulary import BEFORE, at_norm, rows
from probe.errors import BadInput, NoSuchWord


def embed(concept: Concept, pipe: Any) -> dict[str, Tensor]:
    """w* [1, channel] by text encoder; see `Concept.embed`."""
    if not any(concept.coefficients):
        raise BadInput(f"all coefficients of {concept.prompt!r} are 0, so nothing is left of it: raise a coefficient")
    return {encoder.name: _vector(concept, encoder) for encoder in encoders(pipe)}


def _vector(concept: Concept, encoder: Encoder) -> Tensor:
    if encoder.name not in concept.norms:
        raise BadInput(
            f"{concept.prompt!r} was learned for {', '.join(concept.norms)}, this pipeline also reads with "
            f"{encoder.name}: decompose the concept on this model"
        )
    table = rows(encoder, [_token(encoder, word) for word in concept.words])
    coefficients = torch.tensor(concept.coefficients, dtype=torch.float32, device=table.device)
    return at_norm(coefficients[None] @ table, concept.norms[encoder.name])


def _token(encoder: Encoder, word: str) -> int:
    ids = encoder.ids(f"{BEFORE} {word}")[len(encoder.ids(BEFORE)) :]
    if len(ids) != 1:
        raise NoSuchWord(
            f"{word!r} is {len(ids)} tokens in {encoder.name} of this pipeline, expected 1: "
            "decompose the concept on this model"
        )
    return ids[0]


@contextmanager
def spoken(concept: Concept, pipe: Any) -> Iterator[str]:
    """A prompt that means the concept in the block; see `Concept.spoken`."""
    heard = encoders(pipe)
    hole = gap(concept.prompt, concept.template, heard)
    with filled(hole, heard, embed(concept, pipe)):
        yield hole.text
