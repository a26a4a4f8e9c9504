"""Where a prompt's words lie among the columns of the text states, for what runs beside the pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probe.attach.model.families import Family
from probe.attach.text.lexicon import dictionary
from probe.errors import BadInput, NoSuchWord
from probe.words import Prompt


@dataclass(frozen=True, slots=True)
class Placed:
    """Words of one prompt in the columns of one encoder: `columns` of the text states, positions counted in these.

    Words are in first:end; before them is the start token, if there is one, behind them the end token and padding.
    """

    encoder: str
    columns: slice
    positions: Mapping[str, tuple[int, ...]]
    first: int
    end: int


def place(names: Sequence[str], prompt: Prompt, family: Family, encoder: str | None = None) -> Placed:
    """Find words in the columns of an encoder, of the first one by default. Raises NoSuchWord, BadInput."""
    starts = dictionary(prompt, family).starts
    chosen = encoder or next(iter(starts), "")
    if chosen not in starts:
        raise BadInput(f"encoder={encoder!r} has no columns of its own in {family.name}; there are {', '.join(starts)}")
    positions = {name: prompt.columns(name, chosen) for name in names}
    unread = [name for name, found in positions.items() if not found]
    if unread:
        raise NoSuchWord(f"{chosen} reads no token of {unread[0]!r}; choose another word, or encoder=...")
    length, ends = prompt.lengths[chosen], prompt.columns("<end>", chosen)
    first = 1 if prompt.columns("<start>", chosen)[:1] == (0,) else 0
    columns = slice(starts[chosen], starts[chosen] + length)
    return Placed(chosen, columns, positions, first, ends[0] if ends else length)


def check_reads(family: Family) -> None:
    """Raises BadInput for a model that reads no text, or of which it is not known where it reads it."""
    if family.text == "none":
        raise BadInput(f"{family.name} has no attention to a text, so nothing can be done to words. {family.note}")
    if not family.apart:
        raise BadInput(
            f"{family.name} mixes what its encoders say anew for every prompt or block, so only recording knows the "
            "columns of its words; record it, or intervene in a model that reads its text states in their order"
        )
    if family.text == "unknown" or not family.streams:
        raise BadInput(
            f"it is not known where {family.name} reads the text before it has run; "
            "describe it in probe.attach.model.families.FAMILIES to intervene"
        )


def everywhere(prompt: Prompt, family: Family) -> dict[str, tuple[int, ...]]:
    """Each content word's columns in the text states, of the first encoder, if that read the word.

    None in a family whose columns are not those of its text states.
    """
    if not family.apart:
        return {}
    first = next(iter(dictionary(prompt, family).starts), "")
    found = place([word.label for word in prompt.words if word.content and word.tokens.get(first)], prompt, family)
    return {name: tuple(found.columns.start + i for i in own) for name, own in found.positions.items()}
