"""Encodes a text as the pipeline does, beside a recording that goes on.

It runs in a thread of its own: what a recording puts on the encoders listens in the recording's thread alone, so it
hears nothing of this.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from probe.attach.asked.inquiry import Scene
from probe.attach.model.families import Family
from probe.attach.text.hearing import RANKS, Encoded, Listener, state_groups, texts
from probe.attach.text.lexicon import PADDING, dictionary
from probe.attach.text.reading import PromptReader
from probe.errors import BadInput
from probe.words import Prompt, find_word

Saying = Callable[[Any, str], AbstractContextManager[str]]
GAP = re.compile(r"\s{2,}")
MADE = ("embeds", "negative", "attention_mask")  # parts of the names of what is no text of the prompt's
ALONE = {"num_images_per_prompt": 1, "num_videos_per_prompt": 1, "do_classifier_free_guidance": False}


@dataclass(frozen=True)
class Text:
    """A text, its words, and what the encoders made of it.

    `further` are the states [t, c] that a denoiser is given apart, by the names of its arguments; `masks` say which of
    the states, and which of the further ones, are no padding.
    """

    prompt: Prompt
    states: Tensor  # [t, c]
    pooled: Tensor | None = None  # [c]
    further: Mapping[str, Tensor] = field(default_factory=dict)
    masks: Sequence[Tensor] = ()  # [t] each


def encode(scene: Scene, text: str, *, like: Prompt, saying: Saying | None = None) -> Text:
    """A text as the pipeline encoded the prompt `like`: in its place, with all else that the calls were told.

    `saying(pipe, text)` gives, as long as it is open, what is encoded for the text.
    Raises BadInput for a pipeline that has no method for it.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_say, scene, text, like, saying).result()


def again(scene: Scene, calls: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the pipeline's own encoding returns for calls told so. Raises BadInput where it has no method for it."""
    speak = getattr(scene.pipe, "encode_prompt", None) or getattr(scene.pipe, "_encode_prompt", None)
    if speak is None:
        raise BadInput(
            f"{type(scene.pipe).__name__} has no encode_prompt, so no text can be encoded beside its run; ask for what "
            "needs the states of the run alone: LeaveOneOut(replace='padding'), Relevancy(through_text=False)"
        )
    accepted = inspect.signature(speak).parameters
    return [speak(**{name: value for name, value in call.items() if name in accepted}) for call in calls]


def calls_for(scene: Scene, own: str, text: str) -> list[dict[str, Any]]:
    """The arguments of the calls that encoded the prompt `own`, for that one alone, with `text` in its place."""
    return [_instead(call, own, text) for call in scene.told]


def _instead(call: Mapping[str, Any], own: str, text: str) -> dict[str, Any]:
    """The arguments of a call, for one prompt, one picture and one branch."""
    kept = {name: value for name, value in call.items() if not any(part in name for part in MADE)}
    spoken = {name: said for name in map("prompt{}".format, RANKS) if (said := texts(kept.get(name)))}
    index = next((said.index(own) for said in spoken.values() if own in said), 0)
    chosen = {name: said[index % len(said)] for name, said in spoken.items()}
    return kept | ALONE | {name: [text if said == own else said] for name, said in chosen.items()}


def _say(scene: Scene, text: str, like: Prompt, saying: Saying | None) -> Text:
    with nullcontext(text) if saying is None else saying(scene.pipe, text) as said:
        return _encode(scene, said, like)


@torch.no_grad()
def _encode(scene: Scene, text: str, like: Prompt) -> Text:
    listener = Listener(scene.pipe)
    with ExitStack() as stack:
        for handle in listener.hooks():
            stack.callback(handle.remove)
        calls = calls_for(scene, like.text, text)
        results = again(scene, calls)
        encoded = Encoded(given=dict(listener.given))
        heard, _ = listener.take()
    states = [state_groups(result)[0][0] for result in results]
    encoded.note(calls[0], [[states[0]]], heard)
    prompt = PromptReader(scene.pipe, scene.family, encoded).prompts()[0]
    rows = [_rows(result) for result in results]
    masks = [row for own, s in zip(rows, states, strict=True) for row in own if _is_mask(row, len(s))]
    pooled = next((row for row in rows[0] if not _is_mask(row, len(states[0]))), None)
    return Text(prompt, states[0], pooled, dict(zip(scene.family.further, states[1:], strict=False)), masks)


def _rows(result: Any) -> list[Tensor]:
    """What an encoding returned beside states for its one text: pooled states [c], masks [t]."""
    found = result if isinstance(result, tuple | list) else (result,)
    return [value[0] for value in found if isinstance(value, Tensor) and value.ndim == 2 and len(value) == 1]


def _is_mask(row: Tensor, length: int) -> bool:
    """Whether a row says of each of `length` states if it counts; some masks are repeated channel by channel."""
    return len(row) % length == 0 and bool(((row == 0) | (row == 1)).all())


def masked(given: dict[str, Any], rows: Sequence[int], masks: Sequence[Tensor]) -> dict[str, Any]:
    """A denoiser's arguments with a text's masks in some rows, if it is given any: of text, or of text and picture."""
    held = {name: x for name, x in given.items() if "mask" in name and isinstance(x, Tensor) and x.ndim == 2}
    found = dict(given)
    for mask in masks:
        fitting = [name for name, x in held.items() if x.shape[1] >= len(mask)]
        name = min(fitting, key=lambda name: held[name].shape[1], default=None)
        if name is not None:
            x = held.pop(name).clone()
            x[list(rows), : len(mask)] = mask.to(x)
            found[name] = x
    return found


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
