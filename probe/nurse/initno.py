"""InitNO (Guo et al. 2024): look for a better noise before the first step, then nurse as Attend-and-Excite does."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from scipy import ndimage
from torch import Tensor

from probe.intervention import LatentIntervention, Maps, Score, Search
from probe.nurse.attend_and_excite import neglect, peaks
from probe.nurse.maps import overlap, sharp_planes, smooth


class InitNO(LatentIntervention):
    """Response + conflict + clean, on the noise and then on the latents, after the released code.

    response: Attend-and-Excite's loss. conflict: mean over pairs of subjects of the overlap of what the strongest cell
    of each gives to all cells (self-attention, smoothed). clean: what a map holds outside of the piece, cut by Otsu's
    threshold, that its strongest cell is in, a sum over subjects. The noise is searched with their sum, conflict
    counting once response is down to `responding`; then come response + conflict + `clean` * clean + `steady` * (sum
    over subjects of mean |map - running mean|), refined at the thresholds.

    Not as in the released code: its running mean is of sharpened maps; its updates between the thresholds lower
    response alone; where no noise is good, it goes on with that of the least response + conflict, we with that of the
    least loss.
    """

    looks_at_cells: ClassVar[bool] = True
    last_piece: ClassVar[bool] = True

    thresholds: Mapping[NonNegativeInt, float] = {10: 0.8, 20: 0.8}
    search: Search | None = Search()
    conflict: NonNegativeFloat = 0.3  # at most this much is good
    response: NonNegativeFloat = 0.2  # the same for the search; at the thresholds it is 1 - threshold
    responding: NonNegativeFloat = 0.5
    clean: NonNegativeFloat = 0.1
    steady: NonNegativeFloat = 0.1

    def score(self, maps: Maps) -> Score:
        planes, terms = self._terms(maps)
        loss = terms["response"] + terms["conflict"] + self.clean * terms["clean"]
        if maps.past is not None:
            before = sharp_planes(Maps(maps.past, maps.positions, maps.end, first=maps.first), self.subjects)
            terms["steady"] = torch.stack([(planes[s] - smooth(before[s])).abs().mean() for s in planes]).sum()
            loss = loss + self.steady * terms["steady"]
        return _scored(loss, planes, terms)

    def noise_score(self, maps: Maps) -> Score:
        """Response and clean, and conflict once there is something to be in conflict."""
        planes, terms = self._terms(maps)
        loss = terms["response"] + terms["clean"]
        if float(terms["response"].detach()) <= self.responding:
            loss = loss + terms["conflict"]
        return _scored(loss, planes, terms)

    def met(self, step: int, scores: Sequence[Score]) -> bool:
        """Both response and conflict are within their limits, or nothing is asked of this step."""
        threshold = self.thresholds.get(step)
        return threshold is None or self._within(scores[-1], 1 - threshold)

    def good(self, score: Score) -> bool:
        """Whether a noise will do."""
        return self._within(score, self.response)

    def _within(self, score: Score, response: float) -> bool:
        return score.terms["response"] <= response and score.terms["conflict"] <= self.conflict

    def _terms(self, maps: Maps) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(the smoothed maps, the parts of the loss)."""
        planes = {s: smooth(plane) for s, plane in sharp_planes(maps, self.subjects).items()}
        assert maps.S is not None  # looks_at_cells
        rows = [smooth(maps.S[int(plane.argmax())]) for plane in planes.values()]
        pairs = [overlap(a, b) for a, b in combinations(rows, 2)]
        terms = {
            "response": neglect(peaks(planes, None).values()),
            "conflict": torch.stack(pairs).mean() if pairs else rows[0].sum() * 0,
            "clean": torch.stack([outside(plane) for plane in planes.values()]).sum(),
        }
        return planes, terms


def _scored(loss: Tensor, planes: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> Score:
    shown = {s: float(plane.detach().max()) for s, plane in planes.items()}
    return Score(loss, shown, {name: float(term.detach()) for name, term in terms.items()})


def outside(plane: Tensor) -> Tensor:
    """The largest cell outside of the connected piece above Otsu's threshold that holds the largest cell of all.

    It counts where it is above the smallest one inside.
    """
    values = plane.detach().float().cpu().numpy()
    labels = np.zeros(values.shape, dtype=np.int32)
    ndimage.label(values > otsu(values), output=labels)  # pieces that touch side by side, from 1
    own = labels == labels.flat[values.argmax()]
    rest = torch.from_numpy(~own).to(plane.device)
    competes = bool(rest.any()) and values[~own].max() > values[own].min()
    return plane[rest].max() if competes else plane.sum() * 0


def otsu(values: np.ndarray) -> float:
    """The threshold between two classes that maximises w0 w1 (m0 - m1)^2 (Otsu 1979), over all values there are."""
    x = np.sort(values, axis=None).astype(np.float64)
    low = np.arange(1, len(x))  # how many are below
    m0, m1 = np.cumsum(x)[:-1] / low, (x.sum() - np.cumsum(x)[:-1]) / (len(x) - low)
    best = int(np.argmax(low * (len(x) - low) * (m0 - m1) ** 2))
    return float(x[best])
