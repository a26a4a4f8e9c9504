"""Losses that bind attributes to their nouns: SynGen, and CONFORM's contrast of groups."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor

from probe.errors import BadInput
from probe.intervention import LatentIntervention, Maps, Score, check_once
from probe.nurse.maps import distribution, sharp_planes, smooth, symmetric_kl, word_plane
from probe.nurse.settings import Temperature


class SynGen(LatentIntervention):
    """Linguistic binding (Rassin et al. 2023): a noun's map agrees with its modifiers' and with nobody else's.

    L = sum over (noun n, modifier m) of D(n, m) - 1/2 [mean_u D(n, u) + mean_u D(m, u)], D the symmetric KL of the maps
    as distributions over cells, u the prompt's tokens outside of the pair's phrase. Raw probabilities: no smoothing, no
    softmax, a constant step. `bindings` maps each noun to its modifiers; a noun without any adds the second term only.
    """

    bindings: Mapping[str, tuple[str, ...]]
    scale_range: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys([*self.bindings, *(m for row in self.bindings.values() for m in row), *self.subjects])
        )

    def check(self) -> None:
        """Raises BadInput without a noun to bind, or with one that is to describe itself."""
        if not self.bindings:
            raise BadInput(
                f"{self.method} has no bindings; name nouns and what describes each: "
                "bindings={'car': ['red'], 'bowl': ['blue']}"
            )
        super().check()
        check_once(self.method, "the nouns of bindings", self.bindings)
        for noun, modifiers in self.bindings.items():
            check_once(self.method, "a phrase of bindings", (noun, *modifiers))

    def score(self, maps: Maps) -> Score:
        terms, shown = [], {}
        for noun, modifiers in self.bindings.items():
            phrase = [noun, *modifiers]
            own = {i for name in phrase for i in maps.positions[name]}
            others = [distribution(maps.A[..., i]) for i in range(maps.first, maps.end) if i not in own]
            planes = [distribution(word_plane(maps, name)) for name in phrase]
            apart = [
                torch.stack([symmetric_kl(p, u) for u in others]).mean() if others else p.sum() * 0 for p in planes
            ]
            pairs = [
                symmetric_kl(planes[0], q) - (apart[0] + a) / 2 for q, a in zip(planes[1:], apart[1:], strict=True)
            ]
            term = torch.stack(pairs).sum() if pairs else -apart[0] / 2
            terms.append(term)
            shown[noun] = float(term.detach())
        return Score(torch.stack(terms).sum(), shown)


class Conform(LatentIntervention):
    """CONFORM (Meral et al. 2024): maps of one group are alike, also between steps; maps of different groups are not.

    NT-Xent with cosine similarity and temperature `tau` over the smoothed maps of this step and the one before. With
    `sharpened` the maps first go through the sharpening softmax, as by the pipeline's default (not in its notebook).
    """

    last_piece: ClassVar[bool] = True

    groups: tuple[tuple[str, ...], ...]
    tau: Temperature = 0.5
    sharpened: bool = False
    thresholds: Mapping[NonNegativeInt, float] = {0: 1.0, 10: 1.0, 20: 1.0}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(name for group in self.groups for name in group), *self.subjects]))

    def check(self) -> None:
        """Raises BadInput where there is nothing to tell apart, or a word is to be apart from itself."""
        if len(self.groups) < 2 or not all(self.groups):
            found = [list(group) for group in self.groups]
            raise BadInput(
                f"{self.method} tells groups of words apart, and groups={found}; "
                "give two or more, none of them empty: groups=[['red', 'car'], ['blue', 'bowl']]"
            )
        super().check()
        check_once(self.method, "groups", (name for group in self.groups for name in group))

    def target(self, step: int) -> float | None:
        """Refine as often as allowed: there is no loss to reach."""
        return -1.0 if step in self.thresholds else None

    def score(self, maps: Maps) -> Score:
        return self.contrasted(maps)

    def contrasted(self, maps: Maps, *, itself: bool = False) -> Score:
        """The contrast of all maps, and by group the mean over its own pairs; 0 where it has none."""
        rows, labels = self.embedded(maps)
        each, positive = contrasts(rows, labels, self.tau, itself=itself)
        own = {self._subject(g): (labels == g)[:, None] & positive for g in range(len(self.groups))}
        shown = {name: float(mean_of(each, pairs).detach()) for name, pairs in own.items()}
        return Score(mean_of(each, positive), shown)

    def _subject(self, group: int) -> str:
        """What a group is called: the subject in it, or its last word."""
        named = [name for name in self.groups[group] if name in self.subjects]
        return (named or list(self.groups[group]))[-1]

    def embedded(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """(maps [token, cell] of this step, and of the one before if there is one; the group of each [token])."""
        labels = [g for g, group in enumerate(self.groups) for _ in group]
        rows = self._embed(maps)
        if maps.previous is not None:
            rows, labels = torch.cat([rows, self._embed(maps.previous).detach()]), labels * 2
        return rows, torch.tensor(labels, device=rows.device)

    def _embed(self, maps: Maps) -> Tensor:
        """[token, cell]: one smoothed map a word."""
        names = [name for group in self.groups for name in group]
        raw = {name: maps.A[..., maps.positions[name][-1]] for name in names}
        planes = sharp_planes(maps, names) if self.sharpened else raw
        return torch.stack([smooth(planes[name]).flatten() for name in names])


def contrast(rows: Tensor, labels: Tensor, tau: float, *, itself: bool = False) -> Tensor:
    """The mean of `contrasts` over all positive pairs."""
    return mean_of(*contrasts(rows, labels, tau, itself=itself))


def contrasts(rows: Tensor, labels: Tensor, tau: float, *, itself: bool = False) -> tuple[Tensor, Tensor]:
    """([i, p]: -log(e^s_ip / (e^s_ip + sum over negatives n of e^s_in)), s = cosine / tau; which pairs are positive).

    If `itself`, (i, i) is a positive pair as well.
    """
    s = torch.exp(F.cosine_similarity(rows[:, None], rows[None], dim=-1) / tau)  # [i, j]
    same = labels[:, None] == labels
    negatives = (s * ~same).sum(1, keepdim=True)
    positive = same if itself else same & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return -torch.log(s / (s + negatives)), positive


def mean_of(each: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen pairs; 0 if none is."""
    return each[chosen].mean() if bool(chosen.any()) else each.sum() * 0
