"""Words and tokens: what the user names, and where it sits in each encoder's sequence."""

from pydantic import BaseModel, ConfigDict


class Token(BaseModel):
    """One position of one encoder's sequence. `start` and `end` are characters of the prompt (0, 0 for specials)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str  # "text_encoder", "text_encoder_2", ...
    index: int
    id: int
    text: str
    start: int
    end: int
    special: str | None = None  # "<start>", "<end>", "<padding>"
    word: str | None = None  # label of the word it belongs to
    prompt: int = 0  # in a trace: which of its prompts it is of


class Word(BaseModel):
    """A word of a prompt. `label` tells repeats apart ("cat", "cat#2"); `tokens` are positions, by encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    text: str
    start: int
    end: int
    tokens: dict[str, tuple[int, ...]]
    content: bool = True  # False for articles, prepositions and the like
    prompt: int = 0  # in a trace: which of its prompts it is of
