"""Words and tokens: what the user names, and where it sits in each encoder's sequence."""

from probe.words.model import Token, Word
from probe.words.prompt import Prompt, find_word, label_like
from probe.words.read import Options, held, read_negative, read_prompt
from probe.words.segment import segment
from probe.words.table import Encoding, word_table

__all__ = [
    "Encoding",
    "Options",
    "Prompt",
    "Token",
    "Word",
    "find_word",
    "held",
    "label_like",
    "read_negative",
    "read_prompt",
    "segment",
    "word_table",
]
