"""Numbers about the attention of words: how spread out it is, what it shares with others, and where it leaks.

All are read from the maps of words alone, so they tell how attention is laid out, not what it does. Maps are taken as
distributions over the cells where amounts must not count. `choice` says which sites, steps, picture and branch.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from probe.errors import BadInput, NotRecorded
from probe.readings import ALL, UNITS, Choice, content_words, special_words, word_maps
from probe.subjects import Subject, find_subjects
from probe.trace import Trace
from probe.words import Word


def entropy(trace: Trace, words: Sequence[str] | None = None, *, choice: Choice = ALL) -> xr.DataArray:
    """(step, word) bits: 0 where one cell has all of a word's attention, attrs["even"] where all have the same."""
    p = _distributions(trace, words, choice)
    bits = -(p * np.log2(p.where(p > 0, 1.0))).sum(("y", "x"))
    return bits.rename("entropy").assign_attrs(units="bits", even=float(np.log2(p.sizes["y"] * p.sizes["x"])))


def overlap(trace: Trace, words: Sequence[str] | None = None, *, choice: Choice = ALL) -> xr.DataArray:
    """(word, to_word) sum over cells of the smaller of two words' shares, mean over steps: 0 apart, 1 the same."""
    p = _distributions(trace, words, choice)
    both = xr.DataArray(np.minimum(p, p.rename(word="to_word"))).sum(("y", "x")).mean("step")
    return both.transpose("word", "to_word").rename("overlap").assign_attrs(units="share")


def leakage(trace: Trace, subjects: Sequence[Subject] | None = None, *, choice: Choice = ALL) -> xr.DataArray:
    """(attribute, noun) share of an attribute's attention in the cells where each noun leads; the mean over steps.

    A row sums to 1; the coordinate `own` names the noun that the prompt gives the attribute to, so the rest of its row
    has leaked. `subjects`: None are those that `probe.subjects` finds. Raises BadInput without two nouns and an
    attribute.
    """
    prompt, words = trace.run.prompt_of(choice.image), trace.words_of(choice.image)
    found = find_subjects(prompt) if subjects is None else subjects
    pairs = [(_label(words, part.start), subject.label) for subject in found for part in subject.attributes]
    nouns = [subject.label for subject in found]
    if len(nouns) < 2 or not pairs:
        raise BadInput(f"{prompt!r} has {len(nouns)} subjects and {len(pairs)} attributes: nothing can leak")
    leads = _distributions(trace, nouns, choice).argmax("word")  # [step, y, x]
    p = _distributions(trace, [attribute for attribute, _ in pairs], choice)
    shares = [p.where(leads == i, 0.0).sum(("y", "x")).mean("step") for i in range(len(nouns))]
    table = xr.concat(shares, xr.Variable("noun", nouns)).transpose("word", "noun").rename(word="attribute")
    own = ("attribute", [noun for _, noun in pairs])
    return table.rename("leakage").assign_coords(own=own).assign_attrs(units="share of the attribute's attention")


def special_share(trace: Trace, *, choice: Choice = ALL) -> xr.DataArray:
    """(step, word) what the start, the end and the padding get: the mean over cells of their share of the attention.

    Raises NotRecorded where no special token was recorded.
    """
    labels = special_words(trace)
    if not labels:
        raise NotRecorded('no special token was recorded; record with words=["<start>", "<end>", "<padding>", ...]')
    return word_maps(trace, labels, choice).mean(("y", "x")).rename("special_share").assign_attrs(units=UNITS)


def between_words(trace: Trace, *, choice: Choice = ALL) -> xr.DataArray:
    """(word, to_word) what a word, the mean of its tokens, gives to each word: the mean over sites and steps.

    Only joint attention has it. Raises NotRecorded (record with `relations=["image->text", "text->text"]`).
    """
    if "/relations/text_to_text" not in trace.tree.groups:
        raise NotRecorded(
            'no attention among words was recorded; record with relations=["image->text", "text->text"] '
            "(a U-Net has none: its text does not attend)"
        )
    share = trace.node("relations/text_to_text")["share"].sel(branch=choice.branch).isel(image=choice.image)
    return share.mean(("site", "step")).rename("between_words").assign_attrs(units="share of a word's attention")


def _distributions(trace: Trace, words: Sequence[str] | None, choice: Choice) -> xr.DataArray:
    """(step, word, y, x) maps that sum to 1 over the cells."""
    maps = word_maps(trace, content_words(trace, choice.image) if words is None else words, choice).astype(np.float64)
    return maps / maps.sum(("y", "x"))


def _label(words: Sequence[Word], start: int) -> str:
    """The label of the word that begins at a character of the prompt."""
    return next(word.label for word in words if word.start <= start < word.end)
