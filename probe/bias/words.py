"""What a concept holds of the words that name labels, beside what is drawn; and the concept with them made even.

A coefficient is a share of an embedding, not of pictures: a concept with as much "man" as "woman" may still be drawn
unevenly. Draw it (`Concept.spoken`) and read the pictures by a classifier before saying that it is balanced.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from probe.bias.tables import SETTING, best, named
from probe.concepts.concept import Concept
from probe.errors import BadInput
from probe.generator.world import vocabulary as v

if TYPE_CHECKING:
    from probe.bias.audits import Audit

Words = Mapping[str, Sequence[str]]  # by label
GENDER: Words = {label: (*v.GENDER_NOUNS[label], *v.GENDER_ADJECTIVES[label]) for label in v.GENDERS}


def held(concept: Concept, words: Words = GENDER) -> dict[str, float]:
    """By label, what its words hold of all that the words of any label hold; empty where none of them is held."""
    sums = {label: sum(_positive(concept, named).values()) for label, named in words.items()}
    total = sum(sums.values())
    return {label: value / total for label, value in sums.items()} if total else {}


def beside(
    audit: "Audit", concepts: Mapping[str, Concept], *, attribute: str = "gender", words: Words = GENDER
) -> pd.DataFrame:
    """What the concept of each group holds of a label, beside how often it was perceived: both are shares.

    One row a group, setting and label. Groups whose concept holds none of the words are left out. That both go
    together over groups is no proof that the words make the pictures: turn them (`probe.bias.balance`).
    Raises BadInput where none is left.
    """
    shares = {group: held(concept, words) for group, concept in concepts.items()}
    rows = [
        {**{name: row[name] for name in [*SETTING, "group", "label"]}, "held": shares[row["group"]][row["label"]]}
        | named(best(row), "share", "")
        | {"reference": row["reference"]}
        for row in audit.shares.loc[audit.shares["attribute"] == attribute].to_dict("records")
        if row["label"] in shares.get(row["group"], {})
    ]
    if not rows:
        there = ", ".join(map(str, audit.shares["group"].unique()))
        raise BadInput(f"no concept of {', '.join(concepts)} holds a label of {attribute}; the groups are {there}")
    return pd.DataFrame(rows)


def balanced(concept: Concept, words: Words = GENDER, *, shares: Mapping[str, float] | None = None) -> Concept:
    """The concept with the words of each label scaled, so that labels hold equal parts of what they held together.

    `shares`: other parts, by label. Raises BadInput where a label has no word in the concept that could be turned up.
    """
    now = held(concept, words)
    missing = [label for label in words if not now.get(label)]
    if missing:
        raise BadInput(
            f"none of the words of {', '.join(missing)} is in the concept {concept.prompt!r} with a coefficient "
            "above 0, so none can be turned up; decompose it again with these words: Recipe(words=...)"
        )
    wanted = shares or dict.fromkeys(words, 1 / len(words))
    for label, own in words.items():
        for word in _positive(concept, own):
            concept = concept.scaled(word, wanted.get(label, 0.0) / now[label])
    return concept


def _positive(concept: Concept, named: Sequence[str]) -> dict[str, float]:
    """Those of the words that a concept holds, with their coefficients."""
    return {word: concept[word] for word in named if word in concept.words and concept[word] > 0}
