"""Separate, our own: the maps of different subjects are drawn apart while the layout is decided, as far as it helps."""

from collections.abc import Mapping, Sequence

from pydantic import NonNegativeInt

from probe.intervention import Maps, Score
from probe.nurse.binding import Conform
from probe.nurse.settings import Share


class Separate(Conform):
    """CONFORM's contrast, refined at the beginning alone, and only as long as it still falls.

    A layout is decided in the first steps, so that is where the latents are refined: at step 0 until one more update
    lowers the loss by less than the share `gain` of it (at most `max_refinements` times); then they move once before
    each of the next steps, `max_steps` in all. A map is a positive pair with itself too: with subjects that nothing
    describes CONFORM has no pair, and so no gradient, before the second step. Chosen on Menagerie, at seeds that no
    benchmark uses: `gain` on 23 pictures of two subjects, `max_steps` on 109.
    """

    max_steps: NonNegativeInt = 25
    thresholds: Mapping[NonNegativeInt, float] = {0: 1.0}
    gain: Share = 0.02

    def met(self, step: int, scores: Sequence[Score]) -> bool:
        """Whether the last update helped too little for another one."""
        if step not in self.thresholds:
            return True
        last = [score.value for score in scores[-2:]]
        return len(last) == 2 and last[0] - last[1] < self.gain * last[0]

    def score(self, maps: Maps) -> Score:
        return self.contrasted(maps, itself=True)
