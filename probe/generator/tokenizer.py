"""Menagerie's tokenizer: CLIP's byte-level BPE, trained so that every word of the world is one token."""

from collections import Counter
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from probe.generator.parts import TEXT_LENGTH
from probe.generator.world.vocabulary import all_words

END_OF_WORD = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")

Pair = tuple[str, str]


def build(words: tuple[str, ...] | None = None) -> CLIPTokenizer:
    """Learn the merges of `words` (default: the world's) and wrap them in the class that Stable Diffusion uses."""
    words = all_words() if words is None else words
    merges = _merges(words)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *("".join(pair) for pair in merges), *SPECIAL]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)
    split = [word for word in words if len(tokenizer(word, add_special_tokens=False).input_ids) != 1]
    if split:
        raise RuntimeError(f"these words are more than one token: {', '.join(split)}")
    return tokenizer


def _merges(words: tuple[str, ...]) -> list[Pair]:
    """Byte-pair encoding until every word is one piece; ties go by name, so that the numbers are always the same."""
    pieces = [(*word[:-1], word[-1] + END_OF_WORD) for word in words]
    merges: list[Pair] = []
    while counts := Counter(pair for piece in pieces for pair in pairwise(piece)):
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        pieces = [_merged(piece, merges[-1]) for piece in pieces]
    return merges


def _merged(piece: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    """The piece with every occurrence of the pair joined, left to right."""
    out: list[str] = []
    for part in piece:
        joins = bool(out) and (out[-1], part) == pair
        out = [*out[:-1], out[-1] + part] if joins else [*out, part]
    return tuple(out)
