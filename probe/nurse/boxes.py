"""Losses that put subjects into boxes: BoxDiff and layout guidance."""

from collections.abc import Mapping, Sequence
from math import floor
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor

from probe.errors import BadInput
from probe.intervention import LatentIntervention, Maps, Score, check_once
from probe.nurse.maps import sharp_planes, smooth, word_plane
from probe.nurse.settings import SomeShare

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture


class Boxed(LatentIntervention):
    """A loss that puts each subject into its box."""

    boxes: Mapping[str, Box]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.boxes)

    def check(self) -> None:
        """Raises BadInput without boxes, for two of one subject, or for one outside of the picture."""
        if not self.boxes:
            raise BadInput(
                f"{self.method} has no boxes; give each subject its left, top, right, bottom: "
                "boxes={'cat': [0, 0, 0.5, 1]}"
            )
        super().check()
        check_once(self.method, "boxes", self.boxes)
        for name, box in self.boxes.items():
            check_box(box, name)


class BoxDiff(Boxed):
    """BoxDiff (Xie et al. 2023), the paper's sum of constraints: inside high, outside low, corners on the box.

    Per subject, on the smoothed, sharpened map: 1 - mean of the top k inside, plus the mean of the top k outside
    (k = share of the cells), plus the L1 distance of the map's projections to the box's, near the box's edges.
    Thresholds are, as in the released code, on the subject that is least inside: refined until 1 - its mean is met.
    """

    last_piece: ClassVar[bool] = True

    share: SomeShare = 0.2
    reach: NonNegativeInt = 1  # cells on either side of an edge
    thresholds: Mapping[NonNegativeInt, float] = {0: 0.05, 10: 0.5, 20: 0.8}

    def met(self, step: int, scores: Sequence[Score]) -> bool:
        """Whether the subject that is least inside of its box is so enough."""
        return step not in self.thresholds or scores[-1].terms["inside"] <= 1 - self.thresholds[step]

    def score(self, maps: Maps) -> Score:
        sharp = sharp_planes(maps, self.boxes)
        terms, within = {}, {}
        for name, box in self.boxes.items():
            plane = smooth(sharp[name])
            inside = box_mask(box, plane.shape[-2], plane.shape[-1], name).to(plane.device)
            within[name] = self._inside(plane, inside)
            terms[name] = within[name] + self._outside(plane, inside) + self._corners(plane, inside)
        shown = {name: float(term.detach()) for name, term in terms.items()}
        worst = max(float(term.detach()) for term in within.values())
        return Score(torch.stack(list(terms.values())).sum(), shown, {"inside": worst})

    def _inside(self, plane: Tensor, inside: Tensor) -> Tensor:
        return 1 - top_mean(plane[inside], self.share)

    def _outside(self, plane: Tensor, inside: Tensor) -> Tensor:
        return top_mean(plane[~inside], self.share)

    def _corners(self, plane: Tensor, inside: Tensor) -> Tensor:
        terms = [self._edge(plane.amax(axis), inside.any(axis)) for axis in (0, 1)]
        return torch.stack(terms).sum()

    def _edge(self, projection: Tensor, inside: Tensor) -> Tensor:
        """Mean |projection - box| over the cells within reach of an edge of the box."""
        near = torch.zeros_like(inside)
        where = torch.nonzero(inside).flatten()
        for edge in (int(where[0]), int(where[-1])):
            near[max(0, edge - self.reach) : edge + self.reach + 1] = True
        return (projection - inside.to(projection)).abs()[near].mean()


class LayoutGuidance(Boxed):
    """Backward layout guidance (Chen et al. 2024): E = mean over subjects of (1 - attention in the box / all of it)^2.

    Up to `max_refinements` iterations at each of the first `max_steps` steps, while E > `enough`; E is measured anew
    at every step. The map is the mean over heads of the chosen sites. The step is scale_factor * sigma_t^2: the
    variance of the noise in the scheduler's own latents, in those of DDIM 1 - alpha-bar_t.
    """

    by_noise: ClassVar[bool] = True

    scale_factor: float = 30.0
    scale_range: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0)
    max_steps: NonNegativeInt = 10
    max_refinements: NonNegativeInt = 4  # and one update: five iterations in all
    enough: NonNegativeFloat = 0.2

    def target(self, step: int) -> float | None:
        """Every early step is refined to `enough`."""
        return self.enough if step < self.max_steps else None

    def refined(self, step: int, scores: Sequence[Score]) -> bool:
        """As soon as a pass is good enough."""
        return self.met(step, scores)

    def finishes(self, step: int, scores: Sequence[Score]) -> bool:
        """What is good enough is not moved."""
        return super().finishes(step, scores) and not self.met(step, scores)

    def score(self, maps: Maps) -> Score:
        energies = {}
        for name, box in self.boxes.items():
            plane = word_plane(maps, name)
            inside = box_mask(box, plane.shape[-2], plane.shape[-1], name).to(plane.device)
            energies[name] = (1 - plane[inside].sum() / plane.sum()) ** 2
        return Score(torch.stack(list(energies.values())).mean(), {n: float(e.detach()) for n, e in energies.items()})


def check_box(box: Box, name: str) -> None:
    """Raises BadInput for a box outside of the picture, or without an area."""
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise BadInput(
            f"the box of {name} is {box}; give left, top, right, bottom between 0 and 1, left < right, top < bottom"
        )


def box_mask(box: Box, rows: int, columns: int, name: str = "the subject") -> Tensor:
    """[y, x] bool. Raises BadInput for a box outside of the picture or smaller than a cell."""
    check_box(box, name)
    left, top, right, bottom = box
    x0, x1, y0, y1 = round(left * columns), round(right * columns), round(top * rows), round(bottom * rows)
    if x1 <= x0 or y1 <= y0:
        raise BadInput(f"the box of {name} is smaller than a cell of the {rows} x {columns} grid; make it larger")
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def top_mean(values: Tensor, share: float) -> Tensor:
    """Mean of the largest share of the values, at least of one."""
    if not len(values):
        return values.sum()
    return values.topk(max(1, floor(share * len(values)))).values.mean()
