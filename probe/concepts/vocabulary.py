"""The words that a concept may be made of: whole words that every text encoder holds as one token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.concepts.pseudo_token import Encoder, own_words
from probe.concepts.recipe import Recipe
from probe.errors import NoMatch

BEFORE = "a"  # what stands before a word when its token is looked up: many tokenizers spell a beginning otherwise


@dataclass(frozen=True)
class Vocabulary:
    """Words, and by encoder their embeddings [word, channel] in float32 and the mean norm of these.

    One coefficient belongs to a word in all encoders, so only words are here that are one token in each of them.
    """

    words: tuple[str, ...]
    tables: Mapping[str, Tensor]
    norms: Mapping[str, float]

    def narrowed(self, places: Sequence[int]) -> "Vocabulary":
        """Only the words at these places, in this order."""
        index = torch.tensor(list(places))
        tables = {name: table[index.to(table.device)] for name, table in self.tables.items()}
        return Vocabulary(tuple(self.words[i] for i in places), tables, norms(tables))

    @property
    def joined(self) -> Tensor:
        """[word, channels of all encoders]."""
        return torch.cat([table.cpu() for table in self.tables.values()], dim=1)

    def parted(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector [1, channels of all encoders] as one for each, at the mean norm of the vocabulary."""
        parts = vector.split([table.shape[1] for table in self.tables.values()], dim=1)
        return {name: at_norm(part, self.norms[name]) for name, part in zip(self.tables, parts, strict=True)}

    def mix(self, coefficients: Tensor) -> dict[str, Tensor]:
        """w* = sum_i alpha_i w_i by encoder, [1, channel], at the mean norm of the vocabulary."""
        return {
            name: at_norm(coefficients.to(table.device)[None] @ table, self.norms[name])
            for name, table in self.tables.items()
        }


def at_norm(vector: Tensor, norm: float) -> Tensor:
    """The vector with another norm."""
    return vector * (norm / vector.norm(dim=-1, keepdim=True).clamp(min=1e-12))


def norms(tables: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean norm of the rows, by encoder."""
    return {name: float(table.norm(dim=1).mean()) for name, table in tables.items()}


def whole_words(encoder: Encoder, letters: int = 1) -> dict[str, int]:
    """Every word that is one token after another word, and that token; decoded, so without any mark of the tokenizer.

    Special tokens, numbers, pieces of words and signs are no words.
    """
    special = set(encoder.tokenizer.all_special_ids)
    ids = [i for i in range(encoder.table.num_embeddings) if i not in special and i < len(encoder.tokenizer)]
    spelt = [text.strip() for text in encoder.tokenizer.batch_decode([[i] for i in ids])]
    found = [(word, i) for word, i in zip(spelt, ids, strict=True) if word.isalpha() and len(word) >= letters]
    if not found:
        return {}
    texts = [f"{BEFORE} {word}" for word, _ in found]
    read = encoder.tokenizer(texts, add_special_tokens=False).input_ids
    before = encoder.ids(BEFORE)
    return {word: i for (word, i), tokens in zip(found, read, strict=True) if list(tokens) == [*before, i]}


def vocabulary(heard: Sequence[Encoder], prompt: str, recipe: Recipe) -> Vocabulary:
    """The words that a recipe allows for a concept. Raises NoMatch, saying why, if there are none."""
    known = [whole_words(encoder, recipe.letters) for encoder in heard]
    common = [word for word in known[0] if all(word in each for each in known[1:])]
    asked = set(recipe.words) if recipe.words is not None else set(common)
    refused = {*own_words(prompt), *recipe.without}
    kept = [word for word in common if word in asked and word not in refused]
    if not kept:
        raise NoMatch(
            f"no word is left for {prompt!r}: the text encoders share {len(common)} whole words of {recipe.letters} "
            f"letters or more (such as {', '.join(sorted(common)[:5]) or 'none'}), of which words= allows "
            f"{len(asked & set(common))}; its own words and without= are left out. Allow more words"
        )
    tables = {e.name: rows(e, [each[word] for word in kept]) for e, each in zip(heard, known, strict=True)}
    held = Vocabulary(tuple(kept), tables, norms(tables))
    return held if recipe.words is not None else trained(held, recipe.trained)


def trained(held: Vocabulary, least: float) -> Vocabulary:
    """The words whose embeddings are no shorter than `least` of the median, in all encoders.

    A tokenizer knows more than a model saw: pieces that only ever stood inside longer words, and words that no caption
    held, stay as short as they began. Raises NoMatch where no word is long enough in all of them.
    """
    lengths = [table.norm(dim=1) for table in held.tables.values()]
    enough = torch.stack([(each >= least * each.median()).cpu() for each in lengths]).all(0)
    if not enough.any():
        raise NoMatch(
            f"no word of {len(held.words)} has an embedding of {least:g} x the median length or more in each of "
            f"{', '.join(held.tables)}; lower Recipe(trained={least:g}), or name the words: Recipe(words=...)"
        )
    return held.narrowed(torch.nonzero(enough)[:, 0].tolist())


def rows(encoder: Encoder, ids: Sequence[int]) -> Tensor:
    """[token, channel] of the embedding, a copy in float32."""
    weights = encoder.table.weight.detach()
    return weights[torch.tensor(list(ids), device=weights.device)].float()


def own_vectors(heard: Sequence[Encoder], prompt: str) -> dict[str, Tensor]:
    """[1, channel] by encoder: the mean embedding of the concept's own tokens, without its article."""
    text = " ".join(own_words(prompt))
    return {e.name: rows(e, e.ids(f"{BEFORE} {text}")[len(e.ids(BEFORE)) :]).mean(0, keepdim=True) for e in heard}


def nearest(held: Vocabulary, own: Mapping[str, Tensor]) -> np.ndarray:
    """[word]: cosine of each word's embedding with the concept's own, mean over the encoders."""
    cosines = [torch.cosine_similarity(table, own[name]).cpu() for name, table in held.tables.items()]
    return torch.stack(cosines).mean(0).numpy()


def limited(held: Vocabulary, closeness: np.ndarray, limit: int) -> Vocabulary:
    """The `limit` closest words; all, in their order, if there are no more."""
    if len(held.words) <= limit:
        return held
    return held.narrowed(sorted(np.argsort(-closeness, kind="stable")[:limit].tolist()))
