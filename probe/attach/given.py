"""What a denoiser is given, whatever its arguments are called: latents, text states, masks."""

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor

from probe.attach.model.families import Family
from probe.attach.model.layout import Arguments

STATES = ("encoder_hidden_states", "context", "prompt_embeds", "cap_feats", "encoder_hidden_states_t5")
SAMPLES = ("sample", "hidden_states", "x", "latent_model_input")
MASKS = ("encoder_attention_mask", "text_attention_mask", "cap_mask")

Many = Tensor | Sequence[Tensor]
Value = TypeVar("Value", Tensor, int)


def first(given: Arguments, names: tuple[str, ...]) -> Many | None:
    return next((given[name] for name in names if isinstance(given.get(name), Tensor | list)), None)


def sequence(states: Many | None) -> Many | None:
    """Text states [b, t, c]; some pipelines give them an axis of one in between."""
    return states.squeeze(1) if isinstance(states, Tensor) and states.ndim == 4 and states.shape[1] == 1 else states


def others_of(given: Arguments, *known: Many | None) -> tuple[int, ...]:
    """Lengths of the sequences [b, t, c] among a denoiser's arguments that are neither latents nor text."""
    tensors = (x for x in given.values() if isinstance(x, Tensor) and all(x is not one for one in known))
    return tuple(x.shape[1] for x in tensors if x.ndim == 3 and x.is_floating_point())


def each(values: Sequence[Value], count: int) -> Sequence[Value]:
    """One of the values for each of `count` rows: films may have more, one a frame, and one may stand for all rows."""
    return values[:: len(values) // count] if len(values) >= count else [*values] * (count // len(values))


def identity(states: Many) -> tuple[Any, ...]:
    """What tells these states from others; they are held on to, so that no other can take their place in memory."""
    tensors = [states] if isinstance(states, Tensor) else states
    return tuple((tensor.data_ptr(), tuple(tensor.shape)) for tensor in tensors)


def attended_of(given: Arguments, count: int) -> tuple[int, ...]:
    """How much of each row's text its mask leaves, where that is its head; else nothing."""
    mask = first(given, MASKS)
    if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) != count:
        return ()
    lengths = tuple(mask.bool().sum(1).tolist())
    return lengths if all(bool(row[:length].all()) for row, length in zip(mask, lengths, strict=True)) else ()


def lengths_of(given: Arguments, states: Many, family: Family) -> tuple[int, ...]:
    """How many columns of text take part, row by row."""
    mask = first(given, MASKS)
    if family.effective and isinstance(mask, Tensor):
        return tuple(mask.bool().sum(1).tolist())
    return tuple(len(row) for row in states)
