"""Encodes a text as the pipeline does, beside a recording that goes on.

It runs in a thread of its own: what a recording puts on the encoders listens in the recording's thread alone, so it
hears nothing of this.
"""

import inspect
import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.attach.model.families import Family, denoiser
from probe.attach.text.hearing import Encoded, Listener, state_groups
from probe.attach.text.lexicon import PADDING, dictionary
from probe.attach.text.reading import PromptReader
from probe.errors import BadInput
from probe.words import Prompt, find_word

Saying = Callable[[Any, str], AbstractContextManager[str]]
GAP = re.compile(r"\s{2,}")


@dataclass(frozen=True)
class Text:
    """A text, its words, and what the encoders made of it."""

    prompt: Prompt
    states: Tensor  # [t, c]
    pooled: Tensor | None  # [c]


def encode(pipe: Any, family: Family, text: str, *, like: Prompt, saying: Saying | None = None) -> Text:
    """A text through the pipeline's own `encode_prompt`, in a sequence as long as another prompt's.

    `saying(pipe, text)` gives, as long as it is open, what is encoded for the text.
    Raises BadInput for a pipeline without `encode_prompt`.
    """
    if not hasattr(pipe, "encode_prompt"):
        raise BadInput(f"{type(pipe).__name__} has no encode_prompt, so no other text can be encoded")
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_say, pipe, family, text, like, saying).result()


def _say(pipe: Any, family: Family, text: str, like: Prompt, saying: Saying | None) -> Text:
    with nullcontext(text) if saying is None else saying(pipe, text) as said:
        return _encode(pipe, family, said, like)


@torch.no_grad()
def _encode(pipe: Any, family: Family, text: str, like: Prompt) -> Text:
    last = list(dictionary(like, family).starts)[-1]
    known = {"prompt": text, "prompt_2": None, "prompt_3": None, "device": denoiser(pipe)[1].device}
    known |= {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    known |= {"max_sequence_length": like.lengths[last]}
    accepted = inspect.signature(pipe.encode_prompt).parameters
    with ExitStack() as stack:
        listener = Listener(pipe)
        for handle in listener.hooks():
            stack.callback(handle.remove)
        result = pipe.encode_prompt(**{name: value for name, value in known.items() if name in accepted})
        encoded = Encoded(given=dict(listener.given))
        heard, _ = listener.take()
    encoded.note({"prompt": (text,)}, state_groups(result), heard)
    prompt = PromptReader(pipe, family, encoded).prompts()[0]
    found = result if isinstance(result, tuple | list) else (result,)
    pooled = next((x[0] for x in found if isinstance(x, Tensor) and x.ndim == 2 and len(x) == 1), None)
    return Text(prompt, encoded.states["cond"][0], pooled)


def columns(prompt: Prompt, family: Family, word: str) -> tuple[int, ...]:
    """A word's columns in the text states, in all encoders. Raises NoSuchWord."""
    lexicon = dictionary(prompt, family).lexicon([prompt.find(word).label])
    return tuple(lexicon.columns[member] for members in lexicon.members for member in members)


def lacking(prompt: Prompt, words: Collection[str]) -> str:
    """The text without some of its words. Raises NoSuchWord."""
    text, found = prompt.text, [find_word(prompt.text, prompt.words, word) for word in words]
    for word in sorted(found, key=lambda word: word.start, reverse=True):
        text = text[: word.start] + text[word.end :]
    return GAP.sub(" ", text).strip()


def padded(prompt: Prompt, family: Family, states: Tensor, words: Collection[str]) -> Tensor:
    """States [t, c] with those of some words replaced by the last padding of the same encoder.

    Raises BadInput where an encoder's part holds no padding.
    """
    result = states.clone()
    for encoder, start in dictionary(prompt, family).starts.items():
        own = [start + i for word in words for i in prompt.find(word).tokens.get(encoder, ())]
        filling = prompt.specials[PADDING].get(encoder, ())
        if own and not filling:
            raise BadInput(
                f"{prompt.text!r} leaves no padding in {encoder} to put in a word's place; ask for replace='reencode', "
                "or shorten the prompt"
            )
        if own:
            result[own] = states[start + filling[-1]]
    return result
