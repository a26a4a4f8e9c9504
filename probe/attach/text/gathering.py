"""Texts of several encoders that the denoiser itself puts in one row, by what its arguments say of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.attach.model.families import Family
from probe.attach.model.layout import Arguments
from probe.attach.text.lexicon import PADDING
from probe.errors import RecordingError
from probe.words import Prompt

MASKS = ("encoder_attention_mask", "encoder_attention_mask_2")
REORDERED = (
    "the pipeline puts the masks of its texts in another order than the texts, so some prompts lose words. Draw one "
    "prompt a call, or one picture or film of each (num_images_per_prompt=1)"
)


def further(given: Arguments, family: Family) -> tuple[int, ...]:
    """Columns of the text states [..., t, c] that a denoiser is given behind the first."""
    states = (given.get(name) for name in family.further)
    return tuple(value.shape[-2] for value in states if isinstance(value, Tensor))


def lead(given: Arguments, family: Family) -> int:
    """Columns of a picture before those of a text that is gathered."""
    shown = given.get(family.pictured)
    return shown.shape[1] if isinstance(shown, Tensor) and bool(shown.any()) else 0


def check_attended(given: Arguments, prompts: Sequence[Prompt | None], family: Family) -> None:
    """Whether as much of each row's gathered text is attended to as was heard. Raises RecordingError.

    What was not heard, such as letters given as embeddings, would move the columns of all other words.
    """
    masks = [mask for mask in map(given.get, MASKS) if isinstance(mask, Tensor)]
    if not family.gathered or not masks:
        return
    counts = [int(count) for count in torch.cat(masks, 1).bool().sum(1)]
    heard = [_heard(prompt) for prompt in prompts]
    for prompt, count, own in zip(prompts, counts, heard, strict=True):
        if prompt is not None and own != count:
            why = REORDERED if sorted(heard) == sorted(counts) else "give the prompt as text, and no embeddings of it"
            raise RecordingError(
                f"{family.name} attends to {count} tokens of the text of {prompt.text!r}, and its encoders were heard "
                f"to read {own}, so its columns cannot be told: {why}"
            )


def _heard(prompt: Prompt | None) -> int:
    """How many tokens an encoder read of a prompt."""
    return 0 if prompt is None else sum(token.special != PADDING for token in prompt.tokens)
