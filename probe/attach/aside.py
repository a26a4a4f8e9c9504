"""What runs beside the pipeline's own passes: interventions that move latents, and inquiries at chosen steps."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import xarray as xr
from torch import Tensor, nn

from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.change.alter import Alteration, name_of
from probe.attach.change.edit import Edit, Editor
from probe.attach.change.forgetful import warn_of
from probe.attach.change.modules import Module
from probe.attach.change.reword import Rewording
from probe.attach.given import STATES
from probe.attach.kept.passes import Pass
from probe.attach.model.attention import named_attention
from probe.attach.model.families import Family, denoisers
from probe.attach.model.name import model_of, revision_of
from probe.attach.take import Take
from probe.attach.text.columns import Placed, check_reads, everywhere, place
from probe.attach.text.encode import Text, encode
from probe.attach.waist import Call, Waist
from probe.errors import BadInput, NoSuchWord, ProbeWarning
from probe.intervention import AttentionIntervention, Intervention, LatentIntervention, PromptIntervention
from probe.words import Prompt

Arguments = dict[str, Any]
OTHERS = (
    "It changes all prompts of a call: draw those with other subjects in calls of their own, each in a block with its "
    "own interventions"
)


@dataclass
class Asides:
    """The side passes of one generation."""

    interventions: Sequence[Intervention] = ()
    inquiries: Sequence[Inquiry] = ()
    waist: Waist | None = None  # where attention interventions act
    modules: Sequence[Module] = ()  # where output interventions do
    alterations: list[Alteration] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    rewordings: list[Rewording] = field(default_factory=list)
    editor: Editor | None = None
    _given: Arguments = field(default_factory=dict)  # of the pass that runs

    def plan(self, scene: Scene) -> None:
        """Find all words in all prompts before any work is done. Raises NoSuchWord, BadInput."""
        prompts, family, scheduler = scene.prompts, scene.family, scene.pipe.scheduler
        if self.interventions:
            check_reads(family)
        self.alterations = [
            Alteration(item, _places(item, prompts, family), scheduler, family)
            for item in _latent(self.interventions, scene)
        ]
        for alteration in self.alterations:
            warn_of(scheduler, alteration.intervention)
        _warn_of_pieces(self.alterations, prompts)
        self.rewordings = [
            Rewording(item, _as_long(item, _encoded(item, scene), scene), scheduler)
            for item in self.interventions
            if isinstance(item, PromptIntervention)
        ]
        self.editor = _editor(self.interventions, scene)
        if self.inquiries:
            words = [everywhere(prompt, family) for prompt in prompts]
            self.answers = [item.begin(replace(scene, words=words)) for item in self.inquiries]

    def check_run(self, total: int) -> None:
        """What is asked for must come up in a run of so many steps. Raises NoMatch, BadInput."""
        for inquiry in self.inquiries:
            inquiry.check_run(total)
        for item in self.interventions:
            if isinstance(item, LatentIntervention):  # it checks itself where it begins to act
                _check_acts(item, total)
            else:
                item.check_run(total)

    def due(self, step: int) -> bool:
        """Whether something is to run before this pass."""
        if self.rewordings or self.editor is not None:
            return True
        return any(aside.due(step) for aside in (*self.answers, *self.alterations))

    def run(self, module: nn.Module, given: Arguments, current: Pass, latents: Tensor) -> Arguments:
        """The denoiser's arguments as the pass shall find them; `latents` may be moved in place."""
        self._edit(None, given)
        for rewording in self.rewordings:
            given = rewording.states(given, current)
        for alteration in self.alterations:
            if alteration.due(current.step):
                given = alteration.alter(module, given, current, latents)
        for answer in self.answers:
            if answer.due(current.step):
                answer.read(module, given, current.rows, current.step)
        self._given = given
        self._edit(current, given)
        return given

    def lead(self, given: Arguments, take: Take | None) -> Arguments:
        """What a ControlNet is called with before the denoiser: where a prompt is changed, it reads the same text."""
        if take is not None and self.rewordings:
            rows = take.rows_ahead(given)
            for rewording in self.rewordings:
                given = rewording.lead(given, rows, take.step)
        return given

    def at_site(self, path: str, given: Arguments, current: Pass) -> Arguments:
        """What an attention is called with, if it is given the very text states that the denoiser was."""
        states = given.get(STATES[0])
        if states is not None and states is self._given.get(STATES[0]):
            for rewording in self.rewordings:
                given = rewording.at_site(path, given, current)
        return given

    def finish(self, module: nn.Module, current: Pass, output: Any) -> Any:
        """The denoiser's output as the pipeline shall find it. Raises NoMatch, MissingReadings for silent sites."""
        self._edit(None, {})
        for part in (*self.rewordings, *self.modules):
            part.check(current)
        for rewording in self.rewordings:
            output = rewording.predictions(module, self._given, current, output)
        return output

    def stepping(self, sample: Any) -> None:
        """The scheduler is about to step from `sample`. Raises RecordingError if that is not what was moved."""
        for alteration in self.alterations:
            alteration.stepping(sample)

    def give_back(self) -> None:
        """The generation is over: tensors of others that were written to hold again what they held."""
        for alteration in self.alterations:
            alteration.give_back()

    def change(self, call: Call) -> Tensor | None:
        """The output of an attention call; None where nothing is changed."""
        return None if self.editor is None else self.editor.change(call)

    def _edit(self, current: Pass | None, given: Arguments) -> None:
        """From now on attention is changed, or it is left alone."""
        if self.editor is not None and self.waist is not None:
            self.waist.begin_pass()
            self.editor.begin(current, given[name_of(given, STATES)] if current is not None else None)

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """What the inquiries found."""
        return {path: node for answer in self.answers for path, node in answer.nodes().items()}

    def extra(self) -> dict[str, Any]:
        """Which interventions there were, with all their settings, and what was done to the latents, step by step."""
        asked = [{"method": item.method, **item.model_dump(mode="json")} for item in self.interventions]
        log = [entry for alteration in self.alterations for entry in alteration.log]
        return ({"interventions": asked} if asked else {}) | ({"nursing": log} if log else {})


def _latent(interventions: Sequence[Intervention], scene: Scene) -> list[LatentIntervention]:
    """Those that move latents, as they are to run on these weights."""
    known = model_of(scene.pipe), revision_of(scene.pipe)
    return [item.on_weights(*known) for item in interventions if isinstance(item, LatentIntervention)]


def _check_acts(item: LatentIntervention, total: int) -> None:
    """Raises BadInput where none of the steps of a run is to be moved or refined."""
    if item.strength != 0 and not item.max_steps and min(item.thresholds, default=total) >= total:
        raise BadInput(
            f"{item.method} has max_steps=0 and thresholds={dict(item.thresholds)}, so it does nothing at the steps 0 "
            f"to {total - 1} of this run: raise max_steps, or give one of them a threshold, thresholds={{0: 0.5}}"
        )


def _places(
    item: LatentIntervention | AttentionIntervention, prompts: Sequence[Prompt], family: Family
) -> list[Placed]:
    """The words of an intervention in every prompt that it changes. Raises NoSuchWord, which says in which of several
    they are not.
    """
    one, encoder = (None, item.encoder) if isinstance(item, LatentIntervention) else (item.prompt, None)
    found: list[Placed] = []
    for i, prompt in enumerate(prompts):
        try:
            found.append(place(item.names if one in (None, i) else (), prompt, family, encoder))
        except NoSuchWord as error:
            if len(prompts) == 1:
                raise
            raise NoSuchWord(f"{item.method} cannot change the prompt {prompt.text!r}: {error}. {OTHERS}") from error
    return found


def _warn_of_pieces(alterations: Sequence[Alteration], prompts: Sequence[Prompt]) -> None:
    """Once for all: which subjects a tokenizer has split, and that the last piece stands for each."""
    found = dict.fromkeys(
        said
        for each in alterations
        if each.intervention.last_piece and each.intervention.strength != 0
        for placed, prompt in zip(each.words, prompts, strict=True)
        for said in _split(each.intervention.method, placed, prompt)
    )
    if found:
        remedy = "if it does too little, name the subject by a word in one piece, in the prompt too"
        warnings.warn(f"{'; '.join(found)}: {remedy}", ProbeWarning, stacklevel=2)


def _split(method: str, placed: Placed, prompt: Prompt) -> Iterator[str]:
    """What to say of each word that one encoder reads in several pieces."""
    texts = {t.index: prompt.text[t.start : t.end].strip() for t in prompt.tokens if t.encoder == placed.encoder}
    for name, positions in placed.positions.items():
        pieces = [texts[i] for i in positions]
        if len(pieces) > 1:
            listed = f"{len(pieces)} pieces ({', '.join(pieces)})"
            yield f"{placed.encoder} reads {name!r} in {listed}, and {method} goes by the last of them, {pieces[-1]!r}"


def _encoded(item: Intervention, scene: Scene) -> dict[str, Text]:
    """What the further texts of an intervention are encoded to."""
    return {text: encode(scene, text, like=scene.prompts[0], saying=item.saying) for text in item.texts}


def _as_long(item: PromptIntervention, texts: dict[str, Text], scene: Scene) -> dict[str, Text]:
    """The texts that take a prompt's place. Raises BadInput where padding is left out and their lengths differ."""
    if scene.family.effective and not item.added:
        for text, prompt in product(texts.values(), scene.prompts):
            if text.prompt.lengths != prompt.lengths:
                counts = [sum(one.lengths.values()) for one in (text.prompt, prompt)]
                raise BadInput(
                    f"{text.prompt.text!r} has {counts[0]} tokens and {prompt.text!r} {counts[1]}: {scene.family.name} "
                    "leaves padding out of its attention, so use prompts of the same length"
                )
    return texts


def _editor(interventions: Sequence[Intervention], scene: Scene) -> Editor | None:
    """The attention interventions, their words found in the prompts that they change. Raises NoSuchWord, BadInput."""
    prompts, family = scene.prompts, scene.family
    items = [item for item in interventions if isinstance(item, AttentionIntervention)]
    for item in items:
        _check_prompts(item, prompts, family)
    edits = [Edit(item, _places(item, prompts, family), _encoded(item, scene)) for item in items]
    if not edits:
        return None
    return Editor(edits, prompts, family, named_attention(denoisers(scene.pipe)), scene.pipe.scheduler)


def _check_prompts(item: AttentionIntervention, prompts: Sequence[Prompt], family: Family) -> None:
    """The prompts that are named must be there, and the attention of the kind that is changed."""
    if family.joint and not item.joint:
        raise BadInput(f"{item.method} changes cross-attention, and {family.name} has joint attention only")
    absent = [rank for rank in (item.prompt, item.source) if rank is not None and rank >= len(prompts)]
    if absent:
        raise BadInput(
            f"{item.method} names prompt {absent[0]}, and there are {len(prompts)}: give them in one call, "
            "pipe([source, edited], generator=[...]) with equal seeds"
        )
