"""A take: what one generation has shown so far. It lives while the pipeline runs and becomes a Trace."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from PIL import Image
from torch import Tensor

from probe.attach.given import (
    SAMPLES,
    STATES,
    Many,
    attended_of,
    each,
    first,
    identity,
    lengths_of,
    others_of,
    sequence,
)
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.guidance import GuidanceReader
from probe.attach.kept.guiders import SCALES, Combined
from probe.attach.kept.outputs import OutputReader
from probe.attach.kept.passes import Pass
from probe.attach.kept.states import Depths
from probe.attach.kept.stepping import StepReader
from probe.attach.model.families import Family
from probe.attach.model.infer import check_known, oriented, streams_of
from probe.attach.model.layout import Arguments, Plane, check_plane, plane, unpacked
from probe.attach.precision import own_precision
from probe.attach.text.gathering import check_attended, further, lead
from probe.attach.text.hearing import Encoded, held, state_groups
from probe.attach.text.opening import Texts, check_heard, warn_of_second_texts
from probe.attach.text.reading import PromptReader
from probe.attach.text.rows import Labeller, Row, sources, warn_of_masks
from probe.errors import RecordingError
from probe.words import Prompt

REMEMBERED = 8  # different text states whose rows are known by heart

Known = tuple[tuple[Row, ...], tuple[int, ...], Many]


@dataclass(frozen=True)
class Spoken:
    """What was encoded for a generation: another one may be given its embeddings again."""

    encoded: Encoded
    depths: Depths
    prompts: tuple[Prompt, ...]
    others: tuple[Prompt | None, ...]
    family: Family

    def gave(self, embeds: Any) -> bool:
        """Whether these embeddings are of the prompts that were encoded."""
        own = self.encoded.states.get("cond", [])
        return bool(own) and bool(groups := state_groups((embeds,))) and all(held(row, own) for row in groups[0])


@dataclass
class Take:
    """One generation, from the encoding of its prompts to its pictures."""

    attention: AttentionReader
    guidance: GuidanceReader
    words: tuple[str, ...] | None = None
    outputs: OutputReader = field(default_factory=OutputReader)
    depths: Depths = field(default_factory=Depths)
    encoded: Encoded = field(default_factory=Encoded)
    prompts: tuple[Prompt, ...] = ()
    others: tuple[Prompt | None, ...] = ()
    step: int = 0
    current: Pass | None = None
    seed: int | None = None
    pictures_asked: int = 0  # how many pictures the pipeline makes at once
    final: Tensor | None = None
    pictures: list[Image.Image] = field(default_factory=list)
    plane: Plane | None = None
    seen: tuple[int, ...] = ()  # the shape of the denoiser's first input, as planes [row, channel, ...]
    scheduling: StepReader = field(default_factory=StepReader)
    _labeller: Labeller | None = None
    _idle: bool = False  # whether no pass has begun since the scheduler stepped
    _known: dict[Any, Known] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """The layout; of a model that is not in the table, as far as it is known."""
        return self.attention.family

    @property
    def spoken(self) -> Spoken | None:
        """What another generation can go on with."""
        if not self.prompts:
            return None
        return Spoken(self.encoded, self.depths, self.prompts, self.others, self.family)

    def follow(self, before: Spoken) -> Self:
        """Begin with what was encoded before, whose embeddings are given again."""
        self.encoded, self.depths = before.encoded, before.depths
        self.prompts, self.others, self.attention.family = before.prompts, before.others, before.family
        return self

    def read_prompts(self, pipe: Any) -> None:
        """Place the words in the columns, from what the encoders have read so far."""
        if self.family.inferred and self.encoded.prompts:
            self.attention.family = replace(self.family, streams=streams_of(self.family.name, self.encoded))
        elif not self.family.inferred and all(stream.keeps != "tail" for stream in self.family.streams):
            self.encoded.given = {}  # states of all layers are large
        reader = PromptReader(pipe, self.family, self.encoded)
        self.prompts, self.others = reader.prompts(), reader.others()
        self._labeller = None

    def _open_lexicons(self, given: Arguments) -> None:
        """Everything has been encoded: which columns make which word?"""
        self.encoded.given = {}
        if not self.prompts and self.words != () and self.family.text != "none":
            raise RecordingError(
                "no prompt was encoded as text, so no column can be given to a word: encode it inside the block "
                "(embeds = pipe.encode_prompt(...)), give the prompt itself, or record no words (words=[])"
            )
        read = {("cond", i): prompt for i, prompt in enumerate(self.prompts)}
        read |= {(self.encoded.other, i): prompt for i, prompt in enumerate(self.others) if prompt is not None}
        texts, more = Texts(read, self.words, self.family), sum(further(given, self.family))
        lengths = {branch: self._length(branch) + more for branch, _ in read}
        lexicons = texts.lexicons(lengths, lead(given, self.family))
        texts.check(self.attention.branches, lexicons)
        self.attention.open(lexicons)
        if self.words != ():
            warn_of_second_texts(self.prompts, self.family, self.encoded)

    def _length(self, branch: str) -> int:
        """Columns of the states that the pipeline made of the texts of a branch."""
        return max(map(len, self.encoded.states.get("cond" if branch == "cond" else "other", ())), default=0)

    def _admit(self, rows: Sequence[Row]) -> None:
        """The rows of a pass are known: with "*", branches that run again are read as well."""
        reader = self.attention
        reader.admit(rows)
        self.outputs.branches = reader.branches
        only = self.words != () and reader.relations.asked.words and not reader.relations.asked.kinds
        if only and self.prompts and not self.outputs.chosen:
            check_heard({row.branch for row in rows}, reader.branches, reader.lexicons)

    def begin_pass(self, denoiser: str, given: Arguments, named: str | None) -> None:
        """A denoiser is about to run: which step, which branch and picture is each row of its batch?"""
        sample, states = first(given, SAMPLES), self._states(given)
        if sample is None or (states is None and self.family.text != "none"):
            said = sorted(name for name, value in given.items() if value is not None)
            raise RecordingError(
                f"{denoiser} was called with {said}; expected latents named one of {SAMPLES} "
                f"and text states named one of {STATES}. A model that is told its prompt as one vector attends to no "
                "word; of one that reads words, let a subclass of the denoiser take them by one of these names"
            )
        if self.family.inferred:
            self.attention.family = oriented(self.family, sample)
            self.attention.joins.start()
        self.guidance.told |= any(given.get(name) is not None for name in SCALES)
        self.plane = plane(given, sample, self.family)
        self.seen = self.seen or tuple(self.planes(sample).shape)
        rows, texts = self._rows(given, states, len(sample), named)
        self._admit(rows)
        own, more = 0 if states is None else max(len(row) for row in states), further(given, self.family)
        full = tuple(text + sum(more) for text in texts)
        attended = attended_of(given, len(rows)) if self.family.inferred else ()
        self.current = Pass(
            denoiser,
            self.step,
            rows,
            self.plane,
            own + sum(more),
            full,
            others_of(given, sample, states),
            parts=(own, *more),
            attended=attended,
        )
        self.attention.begin_pass(self.current)
        self.outputs.begin_pass()
        self._idle = False

    def _states(self, given: Arguments) -> Many | None:
        """The text states among a denoiser's arguments: by name; else, of a model not in the table, by their width."""
        named, rows = sequence(first(given, STATES)), self.encoded.states.get("cond")
        if named is not None or not self.family.inferred or not rows:
            return named
        others = (value for name, value in given.items() if name not in SAMPLES and isinstance(value, Tensor))
        return next((x for x in others if x.ndim == 3 and x.shape[-1] == rows[0].shape[-1]), None)

    def _rows(
        self, given: Arguments, states: Many | None, count: int, named: str | None
    ) -> tuple[tuple[Row, ...], tuple[int, ...]]:
        """The rows and the lengths of their texts. The same text states at the same place of a step are looked up."""
        labeller = self._labeller or self._new_labeller(count, given)
        if states is None:
            return labeller.by_order(count, named), (0,) * count
        key = (identity(states), named, frozenset(labeller.seen.items()))
        known = self._known.get(key)
        if known is None:
            rows = each(list(states), count)
            if self.family.inferred:
                check_known(self.family.name, rows[0], self.encoded)
            known = labeller.label(rows, named), tuple(each(lengths_of(given, states, self.family), count)), states
            prompts = [self._prompt(row) for row in known[0]]
            check_attended(given, prompts, self.family)
            if self.family.effective and not self.family.inferred:
                warn_of_masks(prompts, known[1])
            if len(self._known) < REMEMBERED:
                self._known[key] = known
        else:
            labeller.repeat(known[0])
        return known[0], known[1]

    def _prompt(self, row: Row) -> Prompt | None:
        """What a row of the batch is a picture of."""
        said = self.prompts if row.branch.partition("#")[0] == "cond" else self.others
        return said[row.prompt] if row.prompt < len(said) else None

    def rows_ahead(self, given: Arguments) -> tuple[Row, ...]:
        """The rows of what is called before the denoiser, by the same text states; none where it reads no text."""
        sample, states = first(given, SAMPLES), sequence(first(given, STATES))
        if sample is None or states is None:
            return ()
        count, found = len(sample), sources(self.encoded, cond_first=self.family.cond_first)
        prompts = max(1, len(self.encoded.prompts))
        labeller = Labeller(found, self.encoded.other, self.pictures_asked or count, prompts)
        rows = labeller.label(each(list(states), count))
        return tuple(replace(row, branch=row.branch.partition("#")[0]) for row in rows)  # some have a row a frame

    def _new_labeller(self, count: int, given: Arguments) -> Labeller:
        """The first pass of all."""
        self._open_lexicons(given)
        found = sources(self.encoded, cond_first=self.family.cond_first)
        prompts, heard = max(1, len(self.encoded.prompts)), len(self.encoded.states.get("cond", ()))
        self.pictures_asked = self.pictures_asked or min(heard or count, count)  # of pipelines that prepare no latents
        self._labeller = Labeller(found, self.encoded.other, self.pictures_asked, prompts)
        return self._labeller

    @own_precision()
    def end_pass(self, output: Any) -> None:
        """The denoiser has run."""
        if self.current is None or self.plane is None:
            return
        self.attention.end_pass(self.current)
        if self.family.inferred and self.family.effective and not self.step:
            self._known.clear()  # the lengths in it are from before that was learned
        self.outputs.end_pass(self.current.denoiser)
        value = output[0] if isinstance(output, tuple | list) else output.sample
        planes = unpacked(value, self.plane, self.family) * self.family.sign
        for row, prediction in zip(self.current.rows, planes, strict=True):
            self.guidance.saw(row.branch, row.image, prediction)

    @own_precision()
    def combines(self, combined: Combined) -> None:
        """A guider has combined what the branches said; what it calls unconditional is said of the negative prompt."""
        named = {self.encoded.other if name == "uncond" else name: x for name, x in combined.branches.items()}
        self.guidance.combines(replace(combined, branches=named).at(lambda x: self.planes(x).detach()))

    @own_precision()
    def stepped(self, given: Arguments) -> None:
        """The scheduler is about to step. Raises RecordingError where no denoiser ran since it did last."""
        if self.step and self._idle:
            raise RecordingError(
                f"{type(self.guidance.scheduler).__name__} was stepped more than once after a pass of the denoiser, so "
                "it cannot be told which call ends a step; record a pipeline of the same model that calls it once each"
            )
        self._idle = True
        check_plane(given["sample"], self.plane)
        if self.family.inferred and self.step == 0:
            self.attention.family = self.guidance.turned(self.family, self.planes(given["model_output"]))
        output, sample = self.planes(given["model_output"]), self.planes(given["sample"])
        self.guidance.stepped(output, given["timestep"], sample)
        self.scheduling.begin(output, self.guidance.levels[-1], sample)

    @own_precision()
    def ended_step(self, result: Any) -> None:
        """The scheduler has stepped."""
        self.final = self.planes((result[0] if isinstance(result, tuple) else result.prev_sample).detach())
        self.scheduling.end(self.final)
        self.step += 1
        if self._labeller is not None:
            self._labeller.begin_step()

    def planes(self, x: Many) -> Tensor:
        """Latents as planes."""
        if self.plane is None:
            raise RecordingError("the scheduler stepped before the denoiser ran; record the whole generation")
        return unpacked(x, self.plane, self.family)
