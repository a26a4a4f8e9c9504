"""What each site is for: its part in the prediction of one step, found by changing what one site alone gave.

Ablation takes a word's part out of what a site hands to the cells, or spreads it evenly over them: what then changes is
what the site carried of the word, or of where it goes. Patching runs a second row on another prompt, and gives the
picture's row what the cells got there, at one site: the share of the way to the other prompt's prediction that this
recovers is what the site carries of the difference ("a red cat" and "a blue cat": of the colour). After Vig et al.,
"Investigating Gender Bias in Language Models Using Causal Mediation Analysis" (2020). One step, all else as it was:
what sites do together, or over several steps, is not shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.asked.leave_out import chosen, shares
from probe.attach.asked.rerun import Beside, Reader, check_text
from probe.attach.relevance.tape import values
from probe.attach.text.encode import Text, columns, encode
from probe.attach.text.text_calls import Layout, changing, row, unread
from probe.attach.waist import Call, plain, probabilities
from probe.axes import IMAGE, SITE, STEP, WORD
from probe.errors import BadInput

Spread = Literal["zero", "mean"]


class Ablation(Inquiry):
    """What each site carries of each word (`probe.explain.roles.profile` reads it).

    `words`: None are the content words. `by`: "zero" takes the word's part away from every cell, "mean" gives every
    cell the same of it.
    """

    words: tuple[str, ...] | None = None
    by: Spread = "zero"

    def begin(self, scene: Scene) -> Answer:
        check_text(scene, "Ablation")
        return AblationReader(scene, self.wants, chosen(scene, self.words), self.by)


class Patching(Inquiry):
    """What each site carries of the difference to another prompt, `source` (`probe.explain.roles.carried` reads it)."""

    source: str

    def begin(self, scene: Scene) -> Answer:
        check_text(scene, "Patching")
        return PatchingReader(scene, self.wants, self.source)


@dataclass
class AblationReader(Reader):
    """|eps - eps without a word at a site|, by step, picture, site and word."""

    words: Sequence[Sequence[str]]  # per prompt
    by: Spread
    effects: dict[tuple[int, int, str, str], float] = field(default_factory=dict)

    @torch.no_grad()
    def look(self, beside: Beside, step: int) -> None:
        words, prompt = self.words[beside.row.prompt], self.scene.prompts[beside.row.prompt]
        owned = [columns(prompt, self.scene.family, word) for word in words]
        layout = Layout(self.scene.family, beside.plane, len(beside.states))
        eps, paths = sites(beside, layout)
        states = beside.states.expand(len(words), -1, -1)
        for path in paths:
            with changing(beside.module, at(path, lambda call: ablated(call, layout, owned, self.by))):
                gaps = beside.predict(states) - eps
            for word, gap in zip(words, gaps, strict=True):
                self.effects[step, beside.row.image, self.site(beside, path), word] = float(gap.norm())

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """/roles/ablation: effect (step, image, site, word)."""
        if not self.effects:
            return {}
        effect = table(self.effects, (STEP, IMAGE, SITE, WORD), "denoiser's output")
        return {"/roles/ablation": xr.Dataset({"effect": effect}, attrs={"by": self.by})}


@dataclass
class PatchingReader(Reader):
    """The share of the way to another prompt's prediction, by step, picture and site."""

    source: str
    recovered: dict[tuple[int, int, str], float] = field(default_factory=dict)
    together: dict[tuple[int, int], float] = field(default_factory=dict)
    gap: dict[tuple[int, int], float] = field(default_factory=dict)
    _text: Text | None = None

    @torch.no_grad()
    def look(self, beside: Beside, step: int) -> None:
        layout, place = Layout(self.scene.family, beside.plane, len(beside.states)), (step, beside.row.image)
        other = self._other(beside)
        states, masks = torch.stack([beside.states, other.states.to(beside.states)]), [(), other.masks]
        eps, paths = sites(beside, layout)
        whole = beside.predict(states[1:], masks=masks[1:])[0] - eps[0]
        for path in paths:
            with changing(beside.module, at(path, lambda call: patched(call, layout))):
                moved = beside.predict(states, masks=masks)[0] - eps[0]
            self.recovered[*place, self.site(beside, path)] = float(shares(moved, whole).sum())
        with changing(beside.module, lambda call: patched(call, layout)):
            moved = beside.predict(states, masks=masks)[0] - eps[0]
        self.together[place], self.gap[place] = float(shares(moved, whole).sum()), float(whole.norm())

    def _other(self, beside: Beside) -> Text:
        """The source's text, as long as the prompt's."""
        if self._text is None:
            like = self.scene.prompts[beside.row.prompt]
            self._text = encode(self.scene, self.source, like=like)
        if self._text.states.shape != beside.states.shape:
            raise BadInput(
                f"{self.source!r} has {len(self._text.states)} text states and the prompt {len(beside.states)}: "
                f"{self.scene.family.name} does not pad its text; choose prompts of equally many tokens"
            )
        return self._text

    def nodes(self) -> Mapping[str, xr.Dataset]:
        """/roles/patching: recovered (step, image, site), of all sites together, and how far the predictions are."""
        if not self.recovered:
            return {}
        variables = {
            "recovered": table(self.recovered, (STEP, IMAGE, SITE), "share of the squared difference"),
            "together": table(self.together, (STEP, IMAGE), "share of the squared difference"),
            "gap": table(self.gap, (STEP, IMAGE), "denoiser's output"),
        }
        return {"/roles/patching": xr.Dataset(variables, attrs={"source": self.source})}


def sites(beside: Beside, layout: Layout) -> tuple[Tensor, list[str]]:
    """The prediction [1, c, y, x] as it is, and the modules in which cells read text, as they run."""
    found: dict[str, None] = {}

    def note(call: Call) -> None:
        if layout.kind(call) in ("cross", "joint"):
            found[call.path] = None

    with changing(beside.module, note):
        eps = beside.predict(beside.states[None])
    if not found:
        raise unread(layout)
    return eps, list(found)


def at(path: str, change: Callable[[Call], Tensor | None]) -> Callable[[Call], Tensor | None]:
    """The change at one module alone."""
    return lambda call: change(call) if call.path == path else None


def ablated(call: Call, layout: Layout, owned: Sequence[Sequence[int]], by: Spread) -> Tensor | None:
    """O - P[:, w] V[w] of the cells, with another word w a row; by "mean" each cell gets the mean of what was taken."""
    if layout.kind(call) not in ("cross", "joint"):
        return None
    cells, first = layout.spans(call)
    out = plain(call).clone()
    for i, own in enumerate(owned):
        one, tokens = row(call, i), torch.tensor(own, device=call.q.device) + first
        part = probabilities(one, cells, tokens) @ values(one).index_select(-2, tokens).float()  # [1, h, cell, d]
        lost = part if by == "zero" else part - part.mean(-2, keepdim=True)
        out[i, :, cells] -= lost[0].to(out.dtype)
    return out


def patched(call: Call, layout: Layout) -> Tensor | None:
    """What the second row's cells got, for the first row's cells too."""
    if layout.kind(call) not in ("cross", "joint"):
        return None
    cells, _ = layout.spans(call)
    out = plain(call).clone()
    out[0, :, cells] = out[1, :, cells]
    return out


def table(held: Mapping[Any, float], dims: Sequence[str], units: str) -> xr.DataArray:
    """Numbers by labels as an array; NaN where there is none."""
    labels = [list(dict.fromkeys(key[i] for key in held)) for i in range(len(dims))]
    found = np.full([len(own) for own in labels], np.nan, np.float32)
    for key, value in held.items():
        found[tuple(own.index(entry) for own, entry in zip(labels, key, strict=True))] = value
    return xr.DataArray(found, dict(zip(dims, labels, strict=True)), dims, attrs={"units": units})
