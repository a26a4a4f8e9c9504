"""Attend-and-Excite (Chefer, Alaluf, Vinker, Wolf, Cohen-Or 2023): excite the subject that is attended to least."""

from collections.abc import Mapping

import torch

from probe.intervention import LatentIntervention, Maps, Score
from probe.nurse.maps import sharpen, smooth


class AttendAndExcite(LatentIntervention):
    """L = max over subjects s of max(0, 1 - max over cells of the smoothed, sharpened map of s).

    The defaults are those of the released code (the paper's own step size: `linear=True`). `normalise_end` also drops
    the end token and the padding before the softmax, which the authors do for SD 2.x. Of a word in several pieces the
    last piece stands for it.
    """

    thresholds: Mapping[int, float] = {0: 0.05, 10: 0.5, 20: 0.8}
    normalise_end: bool = False
    sigma: float | None = 0.5  # None switches smoothing off

    def score(self, maps: Maps) -> Score:
        sharp = sharpen(maps.A, maps.end if self.normalise_end else None)
        peaks = {}
        for subject in self.subjects:
            plane = sharp[..., maps.positions[subject][-1] - 1]
            peaks[subject] = (plane if self.sigma is None else smooth(plane, self.sigma)).max()
        losses = torch.stack([(1 - peak).clamp(min=0) for peak in peaks.values()])
        return Score(losses.max(), {subject: float(peak.detach()) for subject, peak in peaks.items()})
