"""Runs a pipeline again from the same noise without one word after another: what a word does along a whole run."""

from collections.abc import Sequence
from typing import Any

import torch

from probe.attach.record import record
from probe.attach.text.encode import lacking
from probe.trace import Trace
from probe.words import read_prompt

WHOLE = ""


def without(
    pipe: Any, prompt: str, words: Sequence[str] | None = None, *, seed: int = 0, **call: Any
) -> dict[str, Trace]:
    """Traces of the pipeline's own runs from one seed: of the prompt, under "", and without each word, under it.

    `words`: None are the content words; `call` goes to the pipeline. `probe.change` compares two of the traces. It
    shows what became of the picture, not why: an early difference grows, so cells far from the word change too.
    Raises NoSuchWord, BadPrompt.
    """
    read = read_prompt(prompt, {})
    chosen = [word.label for word in read.words if word.content] if words is None else list(words)
    texts = {WHOLE: prompt} | {word: lacking(read, [word]) for word in chosen}
    return {word: _run(pipe, text, seed, call) for word, text in texts.items()}


def _run(pipe: Any, prompt: str, seed: int, call: dict[str, Any]) -> Trace:
    with record(pipe, words=[]) as recording:
        pipe(prompt=prompt, generator=torch.Generator("cpu").manual_seed(seed), **call)
    return recording.trace
