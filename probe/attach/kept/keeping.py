"""What is kept of the readings: which steps, which heads, and how finely."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from probe.axes import STEP
from probe.errors import BadInput, NoMatch

Level = Literal["summary", "maps", "full"]
Steps = slice | Sequence[int] | int | None
Heads = Literal["all"] | Sequence[int] | int | None
Place = tuple[str, int]  # path of a module, and which of its calls
GROUPS = 50  # readings over time that a summary holds at most
LEVELS = ("summary", "maps", "full")


@dataclass(frozen=True, slots=True)
class Slots:
    """The steps that are read, in groups: `slots[i]` holds the steps whose mean is the i-th reading."""

    slots: tuple[tuple[int, ...], ...]

    @property
    def labels(self) -> list[int]:
        """The first step of each group."""
        return [steps[0] for steps in self.slots]

    @property
    def of(self) -> dict[int, int]:
        """Step -> group."""
        return {step: i for i, steps in enumerate(self.slots) for step in steps}

    def grouped(self, size: int) -> "Slots":
        """The same steps in groups of `size`."""
        steps = [step for group in self.slots for step in group]
        return Slots(tuple(tuple(steps[i : i + size]) for i in range(0, len(steps), size)))


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants to keep.

    "summary" keeps the mean over heads for each word and site, step by step up to `groups` steps; longer runs in as
    many groups of equal length, each with its mean. "maps" keeps every step apart. "full" keeps every head too.
    """

    level: Level = "summary"
    steps: slice | tuple[int, ...] | None = None
    heads: Literal["all"] | tuple[int, ...] | None = None
    groups: int = GROUPS

    def slots(self, total: int) -> Slots:
        """The steps to read of a run of `total`. Raises NoMatch when that is none, or when one is not in the run."""
        single = Slots(tuple((step,) for step in self._chosen(total)))
        if self.level != "summary" or len(single.slots) <= self.groups:
            return single
        return single.grouped(-(-len(single.slots) // self.groups))

    def _chosen(self, total: int) -> list[int]:
        if self.steps is None:
            return list(range(total))
        if isinstance(self.steps, slice):
            chosen = list(range(total)[self.steps])
            outside = [] if chosen else [self.steps]
        else:
            chosen = sorted({step + total if step < 0 else step for step in self.steps})
            outside = [step for step in self.steps if not -total <= step < total]
        if outside or not chosen:
            raise NoMatch(f"steps={self.steps!r} selects {outside or 'no step'}; this run has steps 0 to {total - 1}")
        return chosen

    def chosen_heads(self, count: int) -> tuple[int, ...]:
        """The heads to keep apart, of a site that has `count`."""
        if self.heads is None:
            return ()
        return tuple(range(count)) if self.heads == "all" else tuple(h for h in self.heads if h < count)


def wish(level: str, steps: Steps, heads: Heads, groups: int) -> Wish:
    """The caller's wish, checked. Raises BadInput, NoMatch."""
    if level not in LEVELS:
        raise BadInput(f"keep={level!r} is not a level; there are: {', '.join(LEVELS)}")
    if groups < 1:
        raise BadInput(f"groups={groups}: a summary holds at least one group of steps")
    if isinstance(heads, str) and heads != "all":
        raise BadInput(f"heads={heads!r}; give None (their mean), 'all', or numbers: heads=[0, 3]")
    some = (heads,) if isinstance(heads, int) else heads
    chosen: tuple[int, ...] | Literal["all"] | None = None
    if some is not None:
        chosen = "all" if isinstance(some, str) else tuple(sorted({int(head) for head in some}))
    if chosen is not None and chosen != "all" and (not chosen or min(chosen) < 0):
        raise NoMatch(f"heads={heads!r} selects no heads; they are numbered from 0, without negative numbers")
    if level == "full" and heads is None:
        chosen = "all"
    span = (steps,) if isinstance(steps, int) else steps
    whole = span if span is None or isinstance(span, slice) else tuple(int(step) for step in span)
    if whole == ():
        raise NoMatch("steps=() selects no steps; leave it out for all")
    return Wish(level, whole, chosen, groups)


@dataclass(slots=True)
class Reading:
    """Sums over the steps of a group, for one picture: means over heads [w, n], and chosen heads [h, w, n]."""

    prompt: int
    mean: Tensor
    heads: Tensor | None
    count: int = 1

    def add(self, mean: Tensor, heads: Tensor | None) -> None:
        """One more step."""
        self.count += 1
        self.mean = self.mean + mean
        if self.heads is not None and heads is not None:
            self.heads = self.heads + heads


@dataclass
class Kept:
    """Readings by group of steps, place and branch, picture by picture, on the model's device."""

    wish: Wish = field(default_factory=Wish)
    slots: Slots = field(default_factory=lambda: Slots(()))
    readings: dict[tuple[int, Place, str], dict[int, Reading]] = field(default_factory=dict)
    total: int = 0  # steps of the run
    _of: dict[int, int] = field(default_factory=dict)

    def plan(self, total: int) -> None:
        """The run has `total` steps. Raises NoMatch."""
        self.total, self.slots = total, self.wish.slots(total)
        self._of = self.slots.of

    def wants(self, step: int) -> bool:
        return step in self._of

    def slot(self, step: int) -> int:
        """The group of a step that is read."""
        return self._of[step]

    def clock(self, times: Sequence[float]) -> dict[str, Any]:
        """The coordinates along the groups whose steps ran, `times` being the timesteps of all steps that did."""
        ran = [[step for step in group if step < len(times)] for group in self.slots.slots]
        groups = [steps for steps in ran if steps]
        counts = {"steps": (STEP, [len(steps) for steps in groups])}
        return {
            STEP: [steps[0] for steps in groups],
            "timestep": (STEP, [times[steps[0]] for steps in groups]),
            **(counts if any(len(steps) > 1 for steps in groups) else {}),
        }

    def add(self, step: int, place: Place, branch: str, image: int, reading: Reading) -> None:
        """One picture's reading of one call."""
        found = self.readings.setdefault((self.slot(step), place, branch), {})
        if image in found:
            found[image].add(reading.mean, reading.heads)
        else:
            found[image] = reading

    def branches(self) -> set[str]:
        return {branch for _, _, branch in self.readings}

    def images(self) -> list[int]:
        return sorted({image for found in self.readings.values() for image in found})

    def pop(self, slot: int, place: Place, branch: str) -> dict[int, Reading]:
        """The readings of a group of steps, which are no longer held here."""
        return self.readings.pop((slot, place, branch), {})
