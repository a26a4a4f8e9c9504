"""Which token of one prompt answers to which of another."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from probe.errors import BadInput
from probe.words import Prompt

Pairs = Sequence[tuple[int, int, float]]  # (position in the source, own position, share of the source's)


def replacement(source: Prompt, own: Prompt, encoder: str) -> Pairs:
    """Word by word: each token of a word gets all of the source word's tokens, evenly where the numbers differ.

    What is no word follows in order: start, end, padding. Raises BadInput where the numbers of words differ.
    """
    if len(source.words) != len(own.words):
        raise BadInput(
            f"replacing needs as many words in both prompts; {source.text!r} has {len(source.words)}, "
            f"{own.text!r} has {len(own.words)}: use mode='refine'"
        )
    found: dict[tuple[int, int], float] = {}
    for before, after in zip(source.words, own.words, strict=True):
        found |= _word(before.tokens.get(encoder, ()), after.tokens.get(encoder, ()))
    rest = zip(_rest(source, encoder), _rest(own, encoder), strict=False)
    return [(i, j, share) for (i, j), share in (found | dict.fromkeys(rest, 1.0)).items()]


def refinement(source: Prompt, own: Prompt, encoder: str) -> Pairs:
    """The tokens that both have, in order; those that are only in one are left out."""
    matcher = SequenceMatcher(None, source.ids(encoder), own.ids(encoder), autojunk=False)
    return [(a + k, b + k, 1.0) for a, b, size in matcher.get_matching_blocks() for k in range(size)]


def _word(before: Sequence[int], after: Sequence[int]) -> dict[tuple[int, int], float]:
    if len(before) == len(after):
        return dict.fromkeys(zip(before, after, strict=True), 1.0)
    return {(i, j): 1 / len(after) for i in before for j in after}


def _rest(prompt: Prompt, encoder: str) -> list[int]:
    """The positions that are no word's."""
    held = {i for word in prompt.words for i in word.tokens.get(encoder, ())}
    return [i for i in range(prompt.lengths[encoder]) if i not in held]
