"""Losses that make every subject appear, apart from the others: Divide & Bind and A-STAR."""

from collections.abc import Mapping

import torch
from torch import Tensor

from probe.errors import BadInput
from probe.intervention import LatentIntervention, Maps, Score
from probe.nurse.maps import distribution, jensen_shannon, overlap, sharp_planes, smooth, total_variation


class DivideAndBind(LatentIntervention):
    """Divide & Bind (Li et al. 2023), the paper's form: L = max over subjects of (lambda_i JSD - TV).

    TV is the total variation of the smoothed, sharpened map (several blobs are allowed); JSD ties it to the map of the
    subject's attribute (`attributes`), both as distributions over cells. Thresholds are on the smallest TV.
    """

    attributes: Mapping[str, str] = {}
    thresholds: Mapping[int, float] = {0: 0.05, 10: 0.2, 20: 0.3}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.subjects, *self.attributes.values()]))

    def check(self) -> None:
        """Raises BadInput without subjects, and for an attribute of something else."""
        super().check()
        strange = [name for name in self.attributes if name not in self.subjects]
        if strange:
            raise BadInput(
                f"attributes names {strange[0]!r}, which is no subject; there are {', '.join(self.subjects)}"
            )

    def target(self, step: int) -> float | None:
        """Refine until the smallest total variation reaches the threshold."""
        threshold = self.thresholds.get(step)
        return None if threshold is None else -threshold

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
        return loss + jensen_shannon(distribution(planes[subject]), distribution(planes[attribute]))


class AStar(LatentIntervention):
    """A-STAR (Agarwal et al. 2023): subjects do not overlap, and keep what they had a step before.

    L_seg = sum over pairs of overlap(A_m, A_n); L_ret = sum over subjects of 1 - overlap of the map with the binarised
    map of the step before, scaled to reach 0 for equal ones. One update at every step. The paper does not give the
    threshold of the binarisation (`high`: share of the maximum) nor the step size.
    """

    max_steps: int = 1_000_000
    high: float = 0.5
    scale_range: tuple[float, float] = (1.0, 1.0)

    def check(self) -> None:
        """Raises BadInput for fewer than two subjects."""
        super().check()
        if len(self.subjects) < 2:
            raise BadInput(
                f"AStar keeps subjects apart, and there is only {', '.join(self.subjects)}; name two or more"
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
