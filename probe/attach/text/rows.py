"""Which branch, picture and prompt each row of the denoiser's batch is: its text states decide."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.attach.text.hearing import Encoded
from probe.errors import ProbeWarning
from probe.words import Prompt

MASKED = (
    "the denoiser attends to {} tokens of {!r}, so it does not see: {}. The pipeline gives it another text's mask, "
    "as where it repeats masks and texts for several pictures differently: draw one prompt a call, or one picture each"
)
ROUNDING = 1e-3  # states of the same text differ by less in one call


@dataclass(frozen=True, slots=True)
class Row:
    """What one row of the batch is. A branch that runs again in the same step (perturbed, or without the picture to
    start from) is "cond#2" or "uncond#2"; one of a text that the prompts' encoding did not return is "further".
    """

    branch: str
    image: int
    prompt: int


@dataclass(frozen=True, slots=True)
class Source:
    """Text states that a row may hold, and whose they are."""

    branch: str
    prompt: int
    states: Tensor  # [t, c]


def sources(encoded: Encoded, *, cond_first: bool) -> list[Source]:
    """The text states of every branch and prompt, in the order that decides where two are equal."""
    sides = [("cond", "cond"), ("other", encoded.other)]
    count = max(1, len(encoded.prompts))
    return [
        Source(branch, prompt, rows[prompt * len(rows) // count])  # one negative text may stand beside all prompts
        for side, branch in (sides if cond_first else sides[::-1])
        if (rows := encoded.states.get(side))
        for prompt in range(count)
    ]


@dataclass
class Labeller:
    """Labels the rows of one step after another. `other` is the branch beside cond."""

    sources: Sequence[Source]
    other: str = "uncond"
    pictures: int = 1
    prompts: int = 1
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)  # rows of a branch and prompt in this step
    images: Counter[str] = field(default_factory=Counter)  # rows of a branch

    @property
    def per_prompt(self) -> int:
        return max(1, self.pictures // self.prompts)

    def begin_step(self) -> None:
        """Another step starts: every branch may run again."""
        self.seen.clear()
        self.images.clear()

    def label(self, states: Sequence[Tensor], named: str | None = None) -> tuple[Row, ...]:
        """The rows of one call. Content decides; where it is equal, what has not run yet in this step comes first.

        `named` is the branch that the pipeline itself announced.
        """
        allowed = [s for s in self.sources if named is None or (s.branch == "cond") == (named == "cond")]
        if not allowed:
            return self.by_order(len(states), named)
        if len(states) <= self.pictures:  # one branch a call: cond comes first
            allowed.sort(key=lambda source: source.branch != "cond")
        distances = _distances(states, allowed)
        nearest = [min(column) for column in zip(*distances, strict=True)]
        return tuple(self._row(allowed, row, nearest) for row in distances)

    def by_order(self, count: int, named: str | None = None) -> tuple[Row, ...]:
        """Without text states to compare: the announced branch, or else the other one before cond."""
        before = count - self.pictures if named is None else count if named != "cond" else 0
        branches = [self.other if i < before else "cond" for i in range(count)]
        return tuple(self._count(b, i % self.pictures // self.per_prompt) for i, b in enumerate(branches))

    def repeat(self, rows: Sequence[Row]) -> None:
        """Count rows that are known already."""
        for row in rows:
            self.seen[row.branch.partition("#")[0], row.prompt] += 1
            self.images[row.branch] += 1

    def _row(self, allowed: Sequence[Source], distances: Sequence[float], nearest: Sequence[float]) -> Row:
        """`nearest`: how close any row of the call comes to each source. Where one holds it, others are strangers."""
        least = min(distances)
        closest = [i for i, distance in enumerate(distances) if distance <= least]
        strange = all(least > 2 * nearest[i] + ROUNDING for i in closest)
        chosen = min((allowed[i] for i in closest), key=lambda s: self.seen[s.branch, s.prompt] // self.per_prompt)
        return self._count("further" if strange else chosen.branch, chosen.prompt)

    def _count(self, branch: str, prompt: int) -> Row:
        turn = self.seen[branch, prompt] // self.per_prompt
        name = branch if turn == 0 else f"{branch}#{turn + 1}"
        row = Row(name, self.images[name], prompt)
        self.seen[branch, prompt] += 1
        self.images[name] += 1
        return row


def warn_of_masks(prompts: Sequence[Prompt | None], lengths: Sequence[int]) -> None:
    """Say which words a row's mask leaves out though its encoder read them; `lengths`: how much of each row is left."""
    cut = {(prompt.text, length): prompt for prompt, length in zip(prompts, lengths, strict=True) if prompt is not None}
    for (text, length), prompt in cut.items():
        encoder = prompt.tokens[0].encoder
        lost = [word.label for word in prompt.words if max(prompt.columns(word.label, encoder), default=0) >= length]
        if lost:
            warnings.warn(MASKED.format(length, text, ", ".join(lost)), ProbeWarning, stacklevel=2)


def _distances(states: Sequence[Tensor], allowed: Sequence[Source]) -> list[list[float]]:
    """[row][source]: largest difference; infinite where the shapes differ. One move to the host."""
    far = torch.full((), torch.inf, device=states[0].device)
    rows = [torch.stack([_distance(row, source.states, far) for source in allowed]) for row in states]
    return torch.stack(rows).tolist()


def _distance(row: Tensor, source: Tensor, far: Tensor) -> Tensor:
    row = row.detach().float().flatten(1)
    if row.shape[1] != source.shape[1] or len(row) < len(source):
        return far
    filled = F.pad(source.to(row.device).float(), (0, 0, 0, len(row) - len(source)))  # shorter texts get zeros
    return (row - filled).abs().amax().nan_to_num(torch.inf, torch.inf)  # a text that overflowed is close to none
