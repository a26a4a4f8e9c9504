"""Small real tokenizers, trained in memory on a page of captions: the classes and pipelines that diffusers models use.

Every function returns a fresh tokenizer that can be changed, saved with `save_pretrained` and loaded with
`from_pretrained`; each has fewer than `LARGEST` tokens (`len(tokenizer)` says how many).
"""

import json
import string
from functools import cache
from itertools import product

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, GemmaTokenizer, LlamaTokenizer, Qwen2Tokenizer, T5Tokenizer

LARGEST = 1024
THINGS = ("cat", "dog", "bear", "balloon", "car", "bowl", "clock", "apple", "house", "ice-cream", "dog's ball")
COLOURS = ("red", "blue", "green", "yellow", "")
CAPTIONS = tuple(
    " ".join(f"a {colour} {thing} and a photo of the {other} in the style of a painting".split())
    for colour, thing, other in product(COLOURS, THINGS, THINGS)
)
LETTERS = " ".join(string.ascii_letters + string.digits + string.punctuation)
WORLD = (
    LETTERS,
    "l'homme au café",
    "un garçon à la plage",
    "一只猫和一只狗",
    "猫が好き",
    "a naïve façade, 3 (three) men: 12:30!",
)
CORPUS = CAPTIONS + WORLD * 20
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip_tokenizer(*, length: int = 77) -> CLIPTokenizer:
    """CLIP's: lower-cased byte-level BPE with an end-of-word mark; start and end around, padded with the end."""
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    vocab, merges = _bpe(splitter, ("<|startoftext|>", "<|endoftext|>"), "</w>")
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def t5_tokenizer(*, length: int = 512) -> T5Tokenizer:
    """T5's: a Unigram over words that begin with a low line; an end, no start; unseen characters are unknown."""
    sentinels = ["<extra_id_0>"]
    return T5Tokenizer(
        vocab=list(_unigram()), extra_ids=0, additional_special_tokens=sentinels, model_max_length=length
    )


def qwen_tokenizer(*, length: int = 4096) -> Qwen2Tokenizer:
    """Qwen's and GPT-2's: byte-level BPE whose words carry the space before them; nothing around; a chat template."""
    vocab, merges = _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), CHAT)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, model_max_length=length, extra_special_tokens=list(CHAT[1:]))
    tokenizer.chat_template = CHATML
    return tokenizer


def llama_tokenizer(*, length: int = 4096) -> LlamaTokenizer:
    """Llama's: BPE over words that begin with a low line, unknown characters as bytes; a start; padded on the left."""
    specials = ("<unk>", "<s>", "</s>", "<pad>")
    vocab, merges = _bpe(pre_tokenizers.Metaspace(), specials, fallback=True)
    return LlamaTokenizer(vocab=vocab, merges=merges, pad_token="<pad>", add_bos_token=True, model_max_length=length)


def gemma_tokenizer(*, length: int = 4096) -> GemmaTokenizer:
    """Gemma's: as Llama's, but no low line before the first word; a start; padded on the left."""
    specials = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
    vocab, merges = _bpe(pre_tokenizers.Metaspace(prepend_scheme="never"), specials, fallback=True)
    return GemmaTokenizer(vocab=vocab, merges=merges, add_bos_token=True, model_max_length=length)


def _bpe(
    splitter: pre_tokenizers.PreTokenizer, specials: tuple[str, ...], suffix: str = "", *, fallback: bool = False
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair encoding learned from the corpus, every byte included."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(vocab_size=500, end_of_word_suffix=suffix, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    merges = [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]
    letters = sorted(tokenizer.get_vocab()) if fallback else sorted(pre_tokenizers.ByteLevel.alphabet())
    single = [letter for letter in letters if len(letter) == 1]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    ends = [letter + suffix for letter in single]
    tokens = dict.fromkeys([*specials, *bytes_, *single, *ends, *("".join(pair) for pair in merges)])
    return {token: index for index, token in enumerate(tokens)}, merges


@cache
def _unigram() -> tuple[tuple[str, float], ...]:
    """Pieces and scores of a Unigram learned from the corpus, T5's specials first."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return (*((str(piece), float(score)) for piece, score in pieces), ("<extra_id_0>", 0.0))
