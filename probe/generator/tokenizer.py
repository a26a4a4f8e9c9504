"""Menagerie's tokenizer: CLIP's byte-level BPE, trained so that every word of the world is one token."""

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from probe.generator.parts import TEXT_LENGTH
from probe.generator.world.vocabulary import all_words

END_OF_WORD = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def build(words: tuple[str, ...] | None = None) -> CLIPTokenizer:
    """Train the merges on `words` (default: the world's) and wrap them in the class that Stable Diffusion uses."""
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


def _merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Merges learned from each word once, until every word is one piece."""
    model = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    model.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=50_000, end_of_word_suffix=END_OF_WORD, show_progress=False)
    model.train_from_iterator(words, trainer)
    return _pairs(model)


def _pairs(model: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [(left, right) for left, right in json.loads(model.to_str())["model"]["merges"]]
