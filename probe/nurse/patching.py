"""Causal patching along a whole run: what one run's sites gave is put into another's, at chosen sites, steps, words.

After Vig et al., "Investigating Gender Bias in Language Models Using Causal Mediation Analysis" (2020), and Meng et
al., "Locating and Editing Factual Associations in GPT" (2022). What a patched picture shows is what the chosen
activations suffice for, given all else of the run that they are put into; that others would not suffice too it does
not show.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from probe.attach.change.recorded import modules, output
from probe.axes import Kind
from probe.errors import BadInput, NoMatch
from probe.intervention import Given, OutputIntervention, Run, Seen, chosen
from probe.nurse.edits import Sourced
from probe.site import matching


class PatchModules(OutputIntervention):
    """What modules gave in a recorded run, in place of what they give in this one, in rows of the prompt.

    `recorded` is a trace of as many steps that holds outputs whole: `probe.record(pipe, words=[], keep="maps",
    modules=["*.attn2:whole"])`. `sites` are patterns of its modules (none: all), `steps` those at which it acts (None:
    all). A recorded run of one picture is put into every picture, one of several into those of the same number.
    """

    recorded: Run
    sites: tuple[str, ...] = ()
    steps: tuple[int, ...] | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(name for name in modules(self.recorded) if matching(name, self.sites))

    def check(self) -> None:
        """Raises NoMatch where the recorded run has no such module."""
        if not self.modules:
            held = ", ".join(modules(self.recorded)) or "none; record some: modules=['*.attn2:whole']"
            raise NoMatch(f"sites={self.sites!r} names no module that the recorded run holds whole; it holds {held}")

    def change(self, given: Given) -> Tensor | None:
        if not chosen(self.steps, given.step, count=given.steps, method=self.method):
            return None
        found = output(self.recorded, given.module, given.step, given.image)
        if set(found.dims) != set(given.axes) or found.transpose(*given.axes).shape != given.values.shape:
            raise BadInput(
                f"{given.module} gave {dict(found.sizes)} in the recorded run, and gives {tuple(given.values.shape)} "
                f"({', '.join(given.axes)}) here; both must be of one model and one size"
            )
        return torch.as_tensor(found.transpose(*given.axes).values).to(given.values)


class PatchAttention(Sourced):
    """What cells get by attention in another run, in place of what they get in this one.

    `words` names words of this prompt and, for each, the other run's word that takes its place: O <- O - P[:, w] V[w]
    + P'[:, w'] V'[w'], primes for the other run. Without `words` all that cells get is the other's, O <- P' V'.
    `kinds` are those of the sites ("cross", "self", "joint"; words are read at the first and last), `steps` those at
    which it acts (None: all). A run into itself stays what it was, to the bit.
    """

    joint: ClassVar[bool] = True

    words: Mapping[str, str] = {}
    kinds: tuple[Kind, ...] = ("cross", "joint")
    steps: tuple[int, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.words)

    def due(self, kind: str, step: int, steps: int) -> bool:
        spoken = kind != "self" or not self.words
        return chosen(self.steps, step, count=steps, method=self.method) and spoken and kind in self.kinds

    def change(self, seen: Seen) -> Tensor:
        assert seen.source is not None and seen.source_values is not None  # `check` saw that there is a source
        theirs = seen.source_values()
        if not self.words:
            return seen.source(theirs)
        columns = [i for word in self.words for i in seen.columns(word)]
        others = [i for word in self.words.values() for i in seen.source_columns(word)]
        lost, gained = seen.attend(only(seen.values, columns)), seen.source(only(theirs, others))
        return seen.attend(seen.values) + (gained - lost)


def only(values: Tensor, columns: list[int]) -> Tensor:
    """Values [h, t, d] that are zero but at some columns: P only(V, w) is P[:, w] V[w]."""
    kept = torch.zeros_like(values)
    kept[:, columns] = values[:, columns]
    return kept
