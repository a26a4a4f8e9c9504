"""Losses that make every subject appear, apart from the others: Divide & Bind and A-STAR."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor

from probe.errors import BadInput
from probe.intervention import LatentIntervention, Maps, Score, check_once
from probe.nurse.maps import distribution, jensen_shannon, overlap, sharp_planes, smooth, total_variation
from probe.nurse.settings import SomeShare


class DivideAndBind(LatentIntervention):
    """Divide & Bind (Li et al. 2023), the paper's form: L = max over subjects of (lambda_i JSD - TV).

    TV is the total variation of the smoothed, sharpened map (several blobs are allowed); JSD ties it to the map of the
    subject's attribute (`attributes`), both as distributions over cells. `weights` are the lambda, each from its step
    on. Thresholds are on the smallest TV, and `at_first` refinements are allowed at step 0.
    """

    last_piece: ClassVar[bool] = True

    attributes: Mapping[str, str] = {}
    weights: Mapping[NonNegativeInt, NonNegativeFloat] = {0: 1.0, 10: 5.0, 20: 10.0}
    thresholds: Mapping[NonNegativeInt, float] = {0: 0.05, 10: 0.2, 20: 0.3}
    at_first: NonNegativeInt = 50
    weight: float = 1.0  # the lambda of a step; set while it runs

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.subjects, *self.attributes.values()]))

    def check(self) -> None:
        """Raises BadInput without subjects, and for an attribute of something else."""
        super().check()
        strange = [name for name in self.attributes if name not in self.subjects]
        if strange:
            raise BadInput(
                f"attributes names {strange[0]!r}, which is not a subject; there are {', '.join(self.subjects)}"
            )
        for pair in self.attributes.items():
            check_once(self.method, "a pair of attributes", pair)

    def now(self, step: int, seen: Sequence[Score]) -> Self:
        """The same with the lambda and the number of refinements of this step."""
        begun = [first for first in self.weights if first <= step]
        most = {"max_refinements": self.at_first} if step == 0 else {}
        return self.model_copy(update={"weight": self.weights[max(begun)] if begun else 0.0} | most)

    def met(self, step: int, scores: Sequence[Score]) -> bool:
        """Whether the smallest total variation has reached the threshold, whatever the binding is."""
        return min(scores[-1].subjects.values()) >= self.thresholds.get(step, 0.0)

    def score(self, maps: Maps) -> Score:
        planes = {name: smooth(plane) for name, plane in sharp_planes(maps, self.names).items()}
        losses = {s: self._one(planes, s) for s in self.subjects}
        variations = {s: float(total_variation(planes[s]).detach()) for s in self.subjects}
        return Score(torch.stack(list(losses.values())).max(), variations)

    def _one(self, planes: Mapping[str, Tensor], subject: str) -> Tensor:
        loss = -total_variation(planes[subject])
        attribute = self.attributes.get(subject)
        if attribute is None:
            return loss
        return loss + self.weight * jensen_shannon(distribution(planes[subject]), distribution(planes[attribute]))


class AStar(LatentIntervention):
    """A-STAR (Agarwal et al. 2023): subjects do not overlap, and keep what they had a step before.

    L_seg = sum over pairs of overlap(A_m, A_n); L_ret = sum over subjects of 1 - overlap of the map with the binarised
    map of the step before, which is as high as that map was (overlap: 0.5 for equal ones). One update at every step.
    The paper does not give the threshold of the binarisation (`high`: share of the maximum) nor the step size.
    """

    last_piece: ClassVar[bool] = True

    max_steps: NonNegativeInt = 1_000_000
    high: SomeShare = 0.5
    scale_range: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0)

    def check(self) -> None:
        """Raises BadInput for fewer than two subjects."""
        super().check()
        if len(self.subjects) < 2:
            raise BadInput(
                f"AStar keeps subjects apart, and there is only {', '.join(self.subjects)}; "
                "name two or more: subjects=['cat', 'dog']"
            )

    def score(self, maps: Maps) -> Score:
        planes = {s: maps.A[..., maps.positions[s][-1]] for s in self.subjects}
        pairs = [overlap(planes[a], planes[b]) for i, a in enumerate(planes) for b in list(planes)[i + 1 :]]
        kept = {s: self._retention(plane, maps.previous, s) for s, plane in planes.items()}
        loss = torch.stack([*pairs, *kept.values()]).sum()
        return Score(loss, {s: float(value.detach()) for s, value in kept.items()})

    def _retention(self, plane: Tensor, previous: Maps | None, subject: str) -> Tensor:
        if previous is None:
            return plane.sum() * 0
        before = previous.A[..., previous.positions[subject][-1]]
        region = (before >= self.high * before.max()).to(plane) * before.max()
        return 1 - overlap(plane, region)
