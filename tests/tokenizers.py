"""Small real tokenizers, trained in memory on a page of captions: the classes and pipelines that diffusers models use.

Every function returns a fresh tokenizer that can be changed, saved with `save_pretrained` and loaded with
`from_pretrained`; each has fewer than `LARGEST` tokens (`len(tokenizer)` says how many).
"""

import string
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from sentencepiece import SentencePieceTrainer
from tokenizers import pre_tokenizers
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
    return T5Tokenizer(vocab=_unigram(), extra_ids=0, additional_special_tokens=sentinels, model_max_length=length)


def qwen_tokenizer(*, length: int = 4096) -> Qwen2Tokenizer:
    """Qwen's and GPT-2's: byte-level BPE whose words carry the space before them; nothing around; a chat template."""
    vocab, merges = _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), CHAT)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, model_max_length=length, extra_special_tokens=list(CHAT[1:]))
    tokenizer.chat_template = CHATML
    return tokenizer


def llama_tokenizer(*, length: int = 4096, side: str = "left") -> LlamaTokenizer:
    """Llama's: BPE over words that begin with a low line, unknown characters as bytes; a start; padded on a side."""
    specials = ("<unk>", "<s>", "</s>", "<pad>")
    vocab, merges = _bpe(pre_tokenizers.Metaspace(), specials, fallback=True)
    options = {"pad_token": "<pad>", "add_bos_token": True, "model_max_length": length, "padding_side": side}
    return LlamaTokenizer(vocab=vocab, merges=merges, **options)


def gemma_tokenizer(*, length: int = 4096) -> GemmaTokenizer:
    """Gemma's: as Llama's, but no low line before the first word; a start; padded on the left."""
    specials = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
    vocab, merges = _bpe(pre_tokenizers.Metaspace(prepend_scheme="never"), specials, fallback=True)
    return GemmaTokenizer(vocab=vocab, merges=merges, add_bos_token=True, model_max_length=length)


def chatglm_tokenizer(folder: Path) -> ChatGLMTokenizer:
    """ChatGLM's: BPE of SentencePiece, wrapped in Python, so that no token says where it is; two marks in front."""
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=600,
        model_type="bpe",
        character_coverage=1.0,
        byte_fallback=True,
        minloglevel=2,
    )
    return ChatGLMTokenizer(str(folder / "tokenizer.model"))


def _bpe(
    splitter: pre_tokenizers.PreTokenizer, specials: tuple[str, ...], suffix: str = "", *, fallback: bool = False
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair encoding of the corpus; other bytes stand alone.

    It is learned here because the trainer of `tokenizers` breaks ties by chance where words have a suffix.
    """
    words = Counter(piece for text in CORPUS for piece, _ in splitter.pre_tokenize_str(text))
    split = {(*word[:-1], word[-1] + suffix): count for word, count in words.items()}
    letters = {letter for word in words for letter in word} if fallback else set(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    merges = list(_merges(split))
    ends = [letter + suffix for letter in sorted(letters)]
    tokens = dict.fromkeys([*specials, *bytes_, *sorted(letters), *ends, *("".join(pair) for pair in merges)])
    return {token: index for index, token in enumerate(tokens)}, merges


def _merges(words: dict[tuple[str, ...], int]) -> Iterator[tuple[str, str]]:
    """The pair that stands most often, again and again until no pair stands three times; ties go by the alphabet."""
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            pairs.update(dict.fromkeys(pairwise(word), count))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 3:
            return
        yield best
        words = {_merged(word, best): count for word, count in words.items()}


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def _unigram() -> list[tuple[str, float]]:
    """Pieces and scores, T5's specials first. The pieces are those of a byte-pair encoding, because the trainer of
    Unigrams gives another vocabulary each time; a score that hardly falls makes the fewest pieces the likeliest.
    """
    pieces = [piece for piece in _bpe(pre_tokenizers.Metaspace(), (), fallback=True)[0] if not piece.startswith("<0x")]
    scored = [(piece, -10 - rank / 1000) for rank, piece in enumerate(pieces)]
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored, ("<extra_id_0>", 0.0)]
