"""Once all has been encoded: what each branch reads, and the words that none of the wanted branches reads."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from probe.attach.model.families import Family
from probe.attach.text.hearing import Encoded
from probe.attach.text.lexicon import EVERY, IMAGE, Lexicon, dictionary, parted, unread, wanted_labels
from probe.axes import SPECIAL
from probe.errors import NoMatch, NoSuchWord, ProbeWarning
from probe.words import Prompt

Whose = tuple[str, int]  # branch, prompt


@dataclass(frozen=True)
class Texts:
    """What the branches read, by branch and number of the prompt, and the words that are wanted of it."""

    read: Mapping[Whose, Prompt]
    words: tuple[str, ...] | None
    family: Family

    def lexicons(self, lengths: Mapping[str, int], lead: int) -> dict[Whose, Lexicon]:
        """Which columns make which word. `lengths` are those of the text states, by branch."""
        return {
            whose: dictionary(prompt, self.family, lengths[whose[0]], lead).lexicon(self._labels(prompt, self.words))
            for whose, prompt in self.read.items()
        }

    def check(self, branches: Collection[str], lexicons: Mapping[Whose, Lexicon]) -> None:
        """Every word asked for must have a column in a text of the wanted branches. Raises NoSuchWord, which says why
        it has none. Beside "*", special tokens are read as far as there are any.
        """
        bases = {branch.partition("#")[0] for branch in branches}
        wanted = {whose: prompt for whose, prompt in self.read.items() if whose[0] in bases}
        held = {label for whose in wanted for label in lexicons[whose].labels}
        words = self.words or ()
        for word in words:
            labels = {label for prompt in wanted.values() for label in self._labels(prompt, (word,))}
            beside = EVERY in words and parted(word)[0] in (*SPECIAL, IMAGE)
            if self.read and not labels & held and not beside:
                raise self._absent(word, wanted, sorted(bases & {"cond", "uncond", "negative"}))

    def _labels(self, prompt: Prompt, words: Sequence[str] | None) -> tuple[str, ...]:
        """The labels to read; all words of an empty prompt are its special tokens."""
        bare = not any(said.words for (branch, _), said in self.read.items() if branch == "cond")
        chosen = words if words is None or EVERY not in words or not bare else (*words, *SPECIAL)
        return wanted_labels(prompt, chosen, self.family)

    def _absent(self, word: str, wanted: Mapping[Whose, Prompt], branches: Sequence[str]) -> NoSuchWord:
        """The error for a word without a column; raises that of the prompt, if it has no such word."""
        name, said = parted(word)[0], list(dict.fromkeys(prompt.text for prompt in wanted.values()))
        if wanted and name in (*SPECIAL, IMAGE):
            there = [one for one in (*SPECIAL, IMAGE) if self._has_column(one, wanted)]
            return NoSuchWord(
                f"{name!r} has no column in {self.family.name}; of the tokens beside the words there are: "
                f"{', '.join(there) or 'none'}"
            )
        others = sorted({branch for branch, i in self.read if (branch, i) not in wanted and self._reads(branch, name)})
        if others or not wanted or word == EVERY:
            read = f"which read {', '.join(map(repr, said))}" if wanted else "for which no encoder read a text"
            both = [*others, *(branch for branch in branches if any(branch == own for own, _ in self.read))]
            more = f"; it is one of {', '.join(others)}: branches={both}" if others else ""
            return NoSuchWord(f"{word!r} is no word of branches={branches}, {read}{more}")
        prompt = next((prompt for prompt in wanted.values() if _holds(prompt, name)), next(iter(wanted.values())))
        prompt.find(name)
        return unread(word, prompt, self.family)

    def _has_column(self, label: str, wanted: Mapping[Whose, Prompt]) -> bool:
        found = (dictionary(prompt, self.family).lexicon((label,)) for prompt in wanted.values())
        return any(label in lexicon.labels for lexicon in found)

    def _reads(self, branch: str, name: str) -> bool:
        return any(_holds(prompt, name) for (own, _), prompt in self.read.items() if own == branch)


def _holds(prompt: Prompt, name: str) -> bool:
    """Whether a word is in a prompt, and read by one of its encoders."""
    try:
        prompt.find(name)
    except NoSuchWord:
        return False
    return True


def check_heard(running: Collection[str], wanted: Collection[str], lexicons: Mapping[Whose, Lexicon]) -> None:
    """One of the wanted branches must have read a text, if nothing but words is wanted. Raises NoMatch where one is
    running and none has.
    """
    read = list(dict.fromkeys(branch for branch, _ in lexicons))
    silent = sorted(branch for branch in running if branch in wanted)
    if silent and not set(read) & set(wanted):
        raise NoMatch(
            f"{silent[0]!r} runs without a text: the pipeline gives it states that no encoder made, such as zeros, so "
            f"it has no words. There are words of {', '.join(read) or 'none'}: record that branch too, give a negative "
            "prompt, or ask for modules= or relations="
        )


def warn_of_second_texts(prompts: Sequence[Prompt], family: Family, encoded: Encoded) -> None:
    """Warns where an encoder that shares its columns with another reads another text: its words are not named."""
    for number, prompt in enumerate(prompts):
        columns = dictionary(prompt, family).starts
        for encoder in (name for name in prompt.lengths if name not in columns):
            texts = encoded.texts["cond"].get(encoder, ())
            text = texts[number % len(texts)] if texts else prompt.text
            if text != prompt.text:
                warnings.warn(
                    f"{encoder} reads {text!r} and not {prompt.text!r}; its tokens lie in the same columns as those of "
                    f"{', '.join(columns)}, after whose words the maps are named. Give both the same text to tell its "
                    "words apart",
                    ProbeWarning,
                    stacklevel=2,
                )
                return
