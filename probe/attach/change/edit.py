"""Attention interventions at work: another output for the rows of the prompt, on a waist of their own.

That waist lies below the reader's, which so sees what the model itself asks. Nothing here makes the probabilities of
all cells to all cells: whatever is replaced or weighted is done to the values, and the fused kernel does the rest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from probe.attach.change.recorded import Recorded
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.passes import Pass, Place, span
from probe.attach.model.families import Family
from probe.attach.text.columns import Placed
from probe.attach.text.encode import Text
from probe.attach.text.text_calls import row as one
from probe.attach.waist import Call, Waist, plain
from probe.errors import BadInput
from probe.intervention import AttentionIntervention, Seen
from probe.site import matching
from probe.words import Prompt

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Edit:
    """One attention intervention: where the words of each prompt are, and what its further texts were encoded to."""

    item: AttentionIntervention
    words: Sequence[Placed]
    texts: Mapping[str, Text] = field(default_factory=dict)


@dataclass
class Editor:
    """The attention interventions of one generation."""

    edits: Sequence[Edit]
    prompts: Sequence[Prompt]
    family: Family
    modules: Mapping[str, nn.Module]
    scheduler: Any
    current: Pass | None = None  # None: nothing is changed, because a pass of our own runs
    states: Tensor | None = None  # [b, t, c] the text states of the current pass
    _scout: AttentionReader | None = None

    def begin(self, current: Pass | None, states: Tensor | None) -> None:
        """A pass of the pipeline starts; None ends it."""
        self.current, self.states = current, states
        self._scout = self._scout or AttentionReader(self.family)

    def change(self, call: Call) -> Tensor | None:
        """The output of one call; None where nothing is changed. Of several changes to a row the last one counts."""
        if self.current is None or call.q.shape[0] != len(self.current.rows):
            return None
        place = self._place(call, self.current)
        if place.site is None or place.folded > 1 or place.temporal:
            return None
        cells, text = span(call, place.site, self.family, self.current.texts[0])
        out: Tensor | None = None
        for edit in self.edits:
            for i in self._rows(edit.item, call, place.site.kind):
                changed = edit.item.change(self._seen(edit, _Row(call, i, cells, text, place.site.kind)))
                if changed is not None:
                    out = plain(call).clone() if out is None else out
                    out[i, :, cells] = changed
        return out

    def _place(self, call: Call, current: Pass) -> Place:
        assert self._scout is not None
        if (call.path, call.rank) not in self._scout.places:
            self._scout.read(call, None, current)
        return self._scout.places[call.path, call.rank]

    def _rows(self, item: AttentionIntervention, call: Call, kind: str) -> Iterator[int]:
        """The rows of the batch that are to be changed."""
        assert self.current is not None
        if item.due(kind, self.current.step, len(self.scheduler.timesteps)) and matching(call.path, item.sites):
            for i, row in enumerate(self.current.rows):
                if row.branch == "cond" and item.prompt in (None, row.prompt):
                    yield i

    def _seen(self, edit: Edit, row: "_Row") -> Seen:
        assert self.current is not None
        rank = self.current.rows[row.index].prompt
        placed = edit.words[rank]
        seen = Seen(
            kind=row.kind,
            values=row.call.v[row.index],
            attend=row.attend(),
            prompt=self.prompts[rank],
            encoder=placed.encoder,
            text=row.text + placed.columns.start,
            other=lambda phrase: self._other(row, placed, self.prompts[rank], edit.texts[phrase]),
        )
        return self._sourced(seen, edit, row)

    def _sourced(self, seen: Seen, edit: Edit, row: "_Row") -> Seen:
        """With the attention of the run that it is tied to, if it is tied to one."""
        assert self.current is not None
        tied = edit.item.source
        if edit.item.recorded is not None:
            self._check_plain(row, edit.item)
            image = self.current.rows[row.index].image
            run = Recorded(edit.item.recorded, edit.texts[edit.item.texts[0]].prompt, self.current.step, image)
            own = one(row.call, row.index)
            theirs, values, prompt = replace(row, call=run.asking(own), index=0), partial(run.values, own), run.prompt
        elif tied is not None:
            theirs = replace(row, index=self._tied(row.index, tied, edit.item))
            values, prompt = lambda: theirs.call.v[theirs.index], self.prompts[tied]
        else:
            return seen
        return replace(seen, source=theirs.attend(), source_prompt=prompt, source_values=values)

    def _check_plain(self, row: "_Row", item: AttentionIntervention) -> None:
        """Raises BadInput where the queries are not what was projected."""
        if row.kind == "joint" or getattr(self.modules[row.call.path], "norm_q", None) is not None:
            raise BadInput(
                f"{row.call.path} normalises or rotates its queries after the projection, so {item.method} cannot take "
                "them from a recorded run: give both prompts in one call"
            )

    def _tied(self, index: int, prompt: int, item: AttentionIntervention) -> int:
        """The row of the other prompt that belongs to the same place in the batch."""
        assert self.current is not None
        rows, own = self.current.rows, self.current.rows[index]
        mine = [i for i, row in enumerate(rows) if (row.branch, row.prompt) == (own.branch, own.prompt)]
        theirs = [i for i, row in enumerate(rows) if (row.branch, row.prompt) == (own.branch, prompt)]
        if len(theirs) != len(mine):
            raise BadInput(
                f"{item.method} takes the attention of prompt {prompt} and needs it in the same batch: "
                "pipe([source, edited], generator=[...]) with equal seeds"
            )
        return theirs[mine.index(index)]

    def _other(self, row: "_Row", placed: Placed, prompt: Prompt, text: Text) -> Tensor:
        """[h, t, d]: the values that a site makes of the prompt with a phrase as it is when encoded alone."""
        assert self.states is not None
        states, start = self.states[row.index].clone(), placed.columns.start
        own = [start + i for i in prompt.columns(text.prompt.text, placed.encoder)]
        alone = [start + i for i in text.prompt.columns(text.prompt.text, placed.encoder)]
        if len(own) != len(alone):
            raise BadInput(f"{text.prompt.text!r} alone has {len(alone)} tokens, and {len(own)} within the prompt")
        states[own] = text.states[alone].to(states)
        to_v = self.modules[row.call.path].get_submodule("to_v")
        values = to_v(states)  # [t, h * d]
        return values.unflatten(-1, (row.call.v.shape[-3], -1)).transpose(0, 1)


@dataclass(frozen=True)
class _Row:
    """One row of one call: its cells, and where the text starts among the columns."""

    call: Call
    index: int
    cells: slice
    text: int
    kind: str

    def attend(self) -> Callable[[Tensor], Tensor]:
        """values [g, t, d] -> P @ values [h, n, d], P that of the cells."""
        own = one(self.call, self.index)
        mask = own.mask[..., self.cells, :] if own.mask is not None and own.mask.shape[-2] > 1 else own.mask
        part = replace(own, q=own.q[:, :, self.cells], mask=mask)
        return lambda values: plain(replace(part, v=values[None]))[0]


def edit_waist(change: Callable[[Call], Tensor | None], modules: Mapping[str, nn.Module], stack: ExitStack) -> Waist:
    """Put a waist that changes on modules, until the stack is closed; its `begin_pass` is to be called at each pass."""
    waist = Waist(lambda call, lse: None, lambda path: True, change)
    stack.enter_context(waist.on(modules))
    return waist
