"""Adaptive nursing, our own: look first, and nurse only the subjects that are about to fail, until they are held."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from probe.intervention import LatentIntervention, Maps, Score
from probe.nurse.attend_and_excite import neglect, peaks
from probe.nurse.maps import sharp_planes


class Adaptive(LatentIntervention):
    """Attend-and-Excite on demand: each picture is watched for `watch` plain steps, then nursed, or left alone.

    A subject is expected to fail if its presence (the largest cell of its smoothed, sharpened map, the largest so far)
    is below `needed`, or, with a `predictor`, if that says so with a probability of `certain` or more. It is nursed
    until its presence was `held` for `steady` steps in a row; then the picture is left to itself. A predictor is
    anything with probability(signals) -> float or None, the signals "presence", "attention" (the same of the map that
    is not sharpened) and "relative" (attention as a share of the strongest subject's) over the watched steps.

    `needed` and `held` are Attend-and-Excite's own thresholds of steps 10 and 20; `watch` and `steady` are choices that
    no measurement stands behind yet.
    """

    watch: int = 3
    needed: float = 0.5
    held: float = 0.8
    steady: int = 2
    predictor: Any = Field(default=None, exclude=True)
    certain: float = 0.5
    thresholds: Mapping[int, float] = {10: 0.5, 20: 0.8}
    nursed: tuple[str, ...] = ()  # which of the subjects the loss is over; set while it runs

    def now(self, step: int, seen: Sequence[Score]) -> LatentIntervention | None:
        """Look, leave alone, or nurse those that are expected to fail and are not held yet."""
        if len(seen) < self.watch:
            return self.model_copy(update={"strength": 0.0})
        failing = tuple(s for s in self.failing(seen[: self.watch]) if not self._is_held(s, seen[self.watch :]))
        return self.model_copy(update={"nursed": failing}) if failing else None

    def failing(self, seen: Sequence[Score]) -> tuple[str, ...]:
        """The subjects that are expected to fail, from the scores of the watched steps."""
        if self.predictor is None:
            return tuple(s for s in self.subjects if max(score.subjects[s] for score in seen) < self.needed)
        risks = {s: self.predictor.probability(self._signals(s, seen)) for s in self.subjects}
        return tuple(s for s, risk in risks.items() if risk is not None and risk >= self.certain)

    def target(self, step: int) -> float | None:
        """The first nursed step is refined until what was missing is there."""
        return 1 - self.needed if step == self.watch else super().target(step)

    def score(self, maps: Maps) -> Score:
        found = peaks(sharp_planes(maps, self.subjects))
        raw = peaks({s: maps.A[..., maps.positions[s][-1]] for s in self.subjects})
        loss = neglect(found[s] for s in self.nursed or self.subjects)
        shown = ({s: float(value.detach()) for s, value in some.items()} for some in (found, raw))
        return Score(loss, *shown)

    def _is_held(self, subject: str, seen: Sequence[Score]) -> bool:
        last = [score.subjects[subject] >= self.held for score in seen[-self.steady :]]
        return len(last) == self.steady and all(last)

    def _signals(self, subject: str, seen: Sequence[Score]) -> dict[str, float]:
        most = {s: max(score.terms[s] for score in seen) for s in self.subjects}
        presence = max(score.subjects[subject] for score in seen)
        relative = most[subject] / max(*most.values(), 1e-12)
        return {"presence": presence, "attention": most[subject], "relative": relative}
