"""Two opened traces and what lies between them, kept in memory; nothing is compared twice, no model is loaded."""

from dataclasses import dataclass, replace

import streamlit as st

import probe
from dashboards.shared.opened import Opened
from probe.comparison import ALL, Comparison


@dataclass(frozen=True)
class Pair:
    """Two traces, and a word of each where others are to stand beside each other than those of one name."""

    first: Opened
    second: Opened
    words: tuple[str, str] | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Tells this pair from every other."""
        return self.first.name, self.first.stamp, self.second.name, self.second.stamp, self.words

    @property
    def found(self) -> Comparison:
        """Their comparison."""
        return _compared(self)

    def beside(self, word: str, other: str) -> "Pair":
        """The pair with a word of the first beside one of the second; itself where it has them so."""
        found = self.found
        same = word in found.words and str(found.distances["second_word"].sel(word=word).values) == other
        return self if same else replace(self, words=(word, other))


@st.cache_resource(max_entries=16, show_spinner="Comparing …", hash_funcs={Pair: lambda pair: pair.key})
def _compared(pair: Pair) -> Comparison:
    words = None if pair.words is None else dict([pair.words])
    return probe.compare(pair.first.trace, pair.second.trace, words=words)


def told(found: Comparison, word: str) -> str:
    """How far a word's map moved, as a sentence."""
    row = found.ranked().set_index("word").loc[word]
    rows, columns = (int(found.distances[axis].sel(group=ALL)) for axis in ("rows", "columns"))
    return (
        f"divergence {row['divergence']:.3g} bits, correlation {row['correlation']:.3g}; its centre moved "
        f"{row['shift']:.2g} cells of {rows} x {columns} (means over the steps)"
    )
