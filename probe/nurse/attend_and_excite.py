"""Attend-and-Excite (Chefer, Alaluf, Vinker, Wolf, Cohen-Or 2023): excite the subject that is attended to least."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from probe.intervention import LatentIntervention, Maps, Score
from probe.nurse.maps import sharp_planes, smooth


class AttendAndExcite(LatentIntervention):
    """L = max over subjects s of max(0, 1 - max over cells of the smoothed, sharpened map of s).

    The defaults are those of the released code (the paper's own step size: `linear=True`). `normalise_end` also drops
    the end token and the padding before the softmax, which the authors do for SD 2.x. Of a word in several pieces the
    last piece stands for it.
    """

    last_piece: ClassVar[bool] = True

    thresholds: Mapping[NonNegativeInt, float] = {0: 0.05, 10: 0.5, 20: 0.8}
    normalise_end: bool = False
    sigma: PositiveFloat | None = 0.5  # None switches smoothing off

    def score(self, maps: Maps) -> Score:
        found = peaks(sharp_planes(maps, self.subjects, normalise_end=self.normalise_end), self.sigma)
        return Score(neglect(found.values()), {subject: float(peak.detach()) for subject, peak in found.items()})


def peaks(planes: Mapping[str, Tensor], sigma: float | None = 0.5) -> dict[str, Tensor]:
    """The largest cell of each map, smoothed."""
    return {name: (plane if sigma is None else smooth(plane, sigma)).max() for name, plane in planes.items()}


def neglect(found: Iterable[Tensor]) -> Tensor:
    """max over subjects of max(0, 1 - peak)."""
    return torch.stack([(1 - peak).clamp(min=0) for peak in found]).max()
