"""An intervention: which words, which steps, and a formula, as data. What runs it lives in `probe.attach`.

There are four kinds, by what they change: the latents before a step, the output of an attention, the prompt (the text
states that a step sees, or the predictions that are combined), and the output of any module.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PlainSerializer

from probe.errors import BadInput
from probe.noise import Search
from probe.words import Prompt, label_like

Array = Any  # a torch.Tensor; this module needs no torch
Side = Annotated[int, Field(ge=2)]  # of a grid of cells; maps are smoothed over neighbours
Run = Annotated[Any, PlainSerializer(lambda trace: trace.run.model_dump(mode="json"))]  # a probe.Trace


def chosen(steps: Sequence[int] | None, step: int, *, count: int, method: str) -> bool:
    """Whether a step is one of those chosen; None are all. Raises BadInput for steps that a run of `count` has not."""
    if any(not 0 <= each < count for each in steps or ()):
        raise BadInput(f"{method} has steps={steps}, and this run has the steps 0 to {count - 1}")
    return steps is None or step in steps


def check_once(method: str, setting: str, names: Iterable[str]) -> None:
    """Raises BadInput where two names are of one word: what a method keeps apart, or ties, would be one thing."""
    for first, second in combinations(names, 2):
        if label_like(first, [second]) and label_like(second, [first]):
            found = f"{method} has one word twice in {setting}, as {first!r} and {second!r}"
            raise BadInput(f"{found}; leave one out (where a prompt says it twice, the second is 'word#2')")


class Intervention(BaseModel, ABC):
    """What every intervention has: a name, the words that it needs, and a check of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def method(self) -> str:
        """The name of the method."""
        return type(self).__name__

    @property
    def names(self) -> tuple[str, ...]:
        """Every word whose tokens the formula needs."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Further texts that have to be encoded."""
        return ()

    @contextmanager
    def saying(self, pipe: Any, text: str) -> Iterator[str]:
        """What a pipeline is given to encode for one of the texts, while the block runs."""
        yield text

    def check(self) -> None:
        """Raises BadInput for settings that no model could follow."""
        return

    def check_run(self, steps: int) -> None:
        """Raises BadInput for a run of so many steps if nothing would come of it."""
        return


@dataclass(frozen=True, slots=True)
class Maps:
    """What a loss sees: `A` [y, x, token], the mean over heads and sites of the attention probabilities.

    In a joint attention these are shares of what goes to the text. Of encoders whose columns follow one another the
    tokens are those of one. `positions` are the tokens of each word, by label; the words are those in first:end.
    """

    A: Array
    positions: Mapping[str, tuple[int, ...]]
    end: int
    previous: "Maps | None" = None  # of the step before, without a gradient
    first: int = 1  # 0 where no start token leads
    past: Array | None = None  # `A` of the steps before, a running mean
    S: Array | None = None  # [cell, y, x]: what each cell gives to the cells, if the loss asks for it


@dataclass(frozen=True, slots=True)
class Score:
    """A loss (a scalar with a gradient, or 0.0), what each subject contributed, and the loss's parts."""

    loss: Array
    subjects: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    planes: Mapping[str, Array] = field(default_factory=dict)  # [y, x] by word, without a gradient, for later steps

    @property
    def value(self) -> float:
        """The loss as a number."""
        return float(self.loss.detach() if hasattr(self.loss, "detach") else self.loss)


class LatentIntervention(Intervention):
    """z <- z - step_size(i) * dL/dz before each of the first `max_steps` steps, and more often at the thresholds.

    Sizes of steps are for latents of one variance, as DDIM's. Where a scheduler's latents grow with the noise (Euler,
    LMS), the step is times their variance over the denoiser's input's, so that the denoiser sees the same move.
    """

    looks_at_cells: ClassVar[bool] = False  # whether the loss needs Maps.S
    memory: ClassVar[float] = 0.9  # weight of what was, in Maps.past
    last_piece: ClassVar[bool] = False  # whether of a word in several pieces the last stands for it
    by_noise: ClassVar[bool] = False  # whether the step is also times the variance of the noise in the latents

    subjects: tuple[str, ...] = ()
    strength: float = 1.0  # 0 leaves the picture as it is, to the bit
    scale_factor: float = 20.0
    scale_range: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 0.5)
    linear: bool = False  # the paper's decay, from scale_factor to half of it; the released code takes the root
    max_steps: NonNegativeInt = 25
    thresholds: Mapping[NonNegativeInt, float] = {}
    max_refinements: NonNegativeInt = 20
    resolution: tuple[Side, Side] | None = None  # rows, columns of the sites that are read; None: nearest to 16 x 16
    sites: tuple[str, ...] = ()  # patterns that narrow these sites down; the pass ends at the last one
    encoder: str | None = None  # whose columns are read, where those of several follow one another; None: the first
    search: Search | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every word whose tokens the loss needs."""
        return self.subjects

    def check(self) -> None:
        """Raises BadInput where there is nothing to nurse, or one subject under two names."""
        if not self.names:
            raise BadInput(f"{self.method} has no subjects; name them: subjects=['cat', 'dog']")
        check_once(self.method, "subjects", self.subjects)

    def on_weights(self, model: str, revision: str | None) -> "LatentIntervention":
        """The same as it is to run on these weights; may warn of what does not fit them."""
        return self

    def now(self, step: int, seen: Sequence[Score]) -> "LatentIntervention | None":
        """What acts at this step, from what this picture has shown so far; one of strength 0 looks and moves nothing.

        None: nothing runs.
        """
        return self

    def step_size(self, step: int, steps: int) -> float:
        """alpha_i = scale_factor * sqrt(r_i), r linear over steps in `scale_range`; without the root if `linear`."""
        first, last = self.scale_range
        r = first + (last - first) * step / max(steps - 1, 1)
        return self.strength * self.scale_factor * (r if self.linear else r**0.5)

    def target(self, step: int) -> float | None:
        """The loss to reach by refinement at this step, if there is one: 1 - threshold."""
        threshold = self.thresholds.get(step)
        return None if threshold is None else max(0.0, 1.0 - threshold)

    def met(self, step: int, scores: Sequence[Score]) -> bool:
        """Whether this step needs no refinement (any more), from the scores of its passes so far."""
        target = self.target(step)
        return target is None or scores[-1].value <= target

    def refined(self, step: int, scores: Sequence[Score]) -> bool:
        """Whether refinement ends: one update after a pass has met the target, as in the code of Attend-and-Excite."""
        return self.met(step, scores[:-1] or scores)

    def finishes(self, step: int, scores: Sequence[Score]) -> bool:
        """Whether an update follows the refinement, from the scores of this step's passes."""
        return step < self.max_steps

    @abstractmethod
    def score(self, maps: Maps) -> Score:
        """The loss of the maps."""

    def noise_score(self, maps: Maps) -> Score:
        """The loss that the search for a noise lowers."""
        return self.score(maps)

    def good(self, score: Score) -> bool:
        """Whether a noise needs no further search."""
        return self.met(0, [score])


Attend = Callable[[Array], Array]  # values [h, t, d] -> P @ values [h, n, d]


@dataclass(frozen=True, slots=True)
class Seen:
    """One attention call of one row of the batch, as an intervention sees it.

    `values` [h, t, d]; `attend` applies the row's own probabilities to values, `source` those of the row, or of the
    recorded run, that it is tied to, whose own values are `source_values`; neither makes the probabilities. `text` says
    where among the values the prompt's tokens start. `other` gives the values that this site makes of the prompt with a
    phrase's tokens as they are when encoded alone.
    """

    kind: str
    values: Array
    attend: Attend
    prompt: Prompt
    encoder: str
    text: int = 0
    source: Attend | None = None
    source_prompt: Prompt | None = None
    source_values: Callable[[], Array] | None = None
    other: Callable[[str], Array] | None = None

    def columns(self, word: str) -> tuple[int, ...]:
        """Where a word's tokens are among the values."""
        return tuple(self.text + i for i in self.prompt.columns(word, self.encoder))

    def source_columns(self, word: str) -> tuple[int, ...]:
        """Where a word of the source's prompt is among the source's values."""
        assert self.source_prompt is not None  # there is a source
        return replace(self, prompt=self.source_prompt).columns(word)


class AttentionIntervention(Intervention):
    """Another output for the attention of cells in the rows of the prompt, at chosen sites: value -> value.

    Maps in the trace are those of the model's own queries and keys, before the change. `recorded` is a trace whose
    attention is taken, of one prompt and with the whole outputs of "*.to_q", "*.to_k" and, for its values, "*.to_v".
    """

    joint: ClassVar[bool] = False  # whether it can change a joint attention

    sites: tuple[str, ...] = ()  # patterns of module names; none: all
    prompt: NonNegativeInt | None = None  # the rank of the only prompt that is changed
    source: NonNegativeInt | None = None  # the rank of the prompt whose attention is taken
    recorded: Run | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompt of the recorded run, whose tokens are to be found."""
        return () if self.recorded is None else tuple(self.recorded.run.prompts)

    @abstractmethod
    def due(self, kind: str, step: int, steps: int) -> bool:
        """Whether a site of this kind ("cross", "self", "joint") is changed at this step."""

    @abstractmethod
    def change(self, seen: Seen) -> Array | None:
        """The output [h, n, d] for this row; None leaves it as it is."""


class PromptIntervention(Intervention):
    """Another prompt at chosen steps: text states, or predictions, are a weighted sum over texts.

    By states: what the rows of the prompt see is the sum. By predictions: each text is denoised, and the guidance
    (prediction minus unconditional prediction) is the sum of theirs. The words of the trace stay those of the prompt.
    With `sites`, only cross-attentions of these names see the sum; the pooled state, and what a ControlNet reads, stay.
    """

    by_predictions: ClassVar[bool] = False
    added: ClassVar[bool] = False  # whether the sum is added to the prompt's own states, or stands in their place

    sites: tuple[str, ...] = ()  # patterns of module names; none: all, and the pooled state

    def check(self) -> None:
        """Raises BadInput where there is no text, or no site that could read it."""
        if not self.texts:
            raise BadInput(f"{self.method} has no prompts; name some in its settings")
        if self.sites and self.by_predictions:
            raise BadInput(f"{self.method} adds up predictions, which are of no site; leave out sites={self.sites!r}")

    @abstractmethod
    def weights(self, step: int, steps: int) -> Mapping[str, float] | None:
        """Text -> weight at this step; None leaves the prompt as it is."""


@dataclass(frozen=True, slots=True)
class Given:
    """One output of one module in one row of the batch, as an intervention sees it; `axes` as in a trace's /modules."""

    module: str
    values: Array
    axes: tuple[str, ...]
    step: int
    steps: int
    image: int = 0


class OutputIntervention(Intervention):
    """Other outputs for modules of the denoiser, in the rows of the prompt: value -> value."""

    @property
    @abstractmethod
    def modules(self) -> tuple[str, ...]:
        """The modules, by the names that their outputs have in a trace: "unet.mid_block"."""

    @abstractmethod
    def change(self, given: Given) -> Array | None:
        """What the module gives in this row, of the same shape; None leaves it as it is."""
