"""Adaptive nursing, our own: look first, and nurse only the subjects that are about to fail, until they are held."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, Field, NonNegativeInt, PlainSerializer, PositiveInt

from probe.errors import BadInput, ProbeWarning
from probe.intervention import LatentIntervention, Maps, Score
from probe.nurse.attend_and_excite import neglect, peaks
from probe.nurse.diagnosis_calibration import Calibration, shipped
from probe.nurse.diagnosis_signals import attended, summary
from probe.nurse.maps import sharp_planes
from probe.nurse.settings import Share


def _predictor(value: Any) -> Any:
    """A calibration, from its settings too; what else can predict, or None. Raises ValueError, for pydantic."""
    if isinstance(value, Mapping):
        return Calibration.model_validate(value)
    if value is not None and (isinstance(value, type) or not callable(getattr(value, "probability", None))):
        kind = f"the class {value.__name__}" if isinstance(value, type) else f"{value!r}, a {type(value).__name__}"
        raise ValueError(
            f"predictor is {kind}; expected an object with probability(signals) -> 0 to 1 or None, "
            "the settings of a calibration, or None for the rule of `needed`"
        )
    return value


def _as_data(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value and type(value).__qualname__


CERTAIN = 0.25  # risk from which on a subject is nursed, where the predictor has no threshold of its own
FOREIGN = (
    "Adaptive's calibration is of other weights ({} {}), so the rule decides here: subjects whose presence stays below "
    "needed={} are nursed. To choose otherwise, set needed, or give a predictor of this model"
)

Predictor = Annotated[Any, BeforeValidator(_predictor), PlainSerializer(_as_data)]


class Adaptive(LatentIntervention):
    """Attend-and-Excite on demand: each picture is watched for `watch` plain steps, then nursed, or left alone.

    A subject is expected to fail if the `predictor` says so with a probability of `certain` or more; without one, and
    where it gives None (ours does of one subject alone, which overlaps with nothing), if its presence (the largest cell
    of its smoothed, sharpened map, the largest so far) is below `needed`. It is nursed
    until its presence was `held` for `steady` steps in a row; then the picture is left to itself. A predictor is
    anything with probability(signals) -> float or None, the signals those of a diagnosis that attention alone gives
    ("attention", "presence", "relative", "lead", "share", "kept", "overlap"), over the watched steps.

    The predictor is the diagnosis's own calibration unless another is given: of Menagerie, and of the first 10 of 50
    steps, so those are watched; over other steps it is a guess. On other weights it is not asked, and the rule
    decides. Without `certain` it is the calibration's own threshold; of another predictor, 0.25. `needed` and
    `held` are Attend-and-Excite's thresholds of steps 10 and 20. No measurement stands behind `steady`.
    """

    watch: PositiveInt = 10
    needed: Share = 0.5
    held: Share = 0.8
    steady: PositiveInt = 2
    predictor: Predictor = Field(default_factory=shipped)
    certain: float | None = None
    thresholds: Mapping[NonNegativeInt, float] = {10: 0.5, 20: 0.8}
    nursed: tuple[str, ...] = ()  # which of the subjects the loss is over; set while it runs

    def check(self) -> None:
        """Raises BadInput without subjects, and where others than these are to be nursed."""
        super().check()
        strange = [name for name in self.nursed if name not in self.subjects]
        if strange:
            raise BadInput(f"nursed names {strange[0]!r}, which is no subject; leave it out, it is set while it runs")

    def check_run(self, steps: int) -> None:
        """Raises BadInput for a run that ends before anything could be nursed."""
        last = min(steps, self.max_steps)
        if self.watch >= last:
            raise BadInput(
                f"Adaptive watches {self.watch} steps, and there are {last} that it may nurse: lower watch "
                "(without the predictor where that is far from the first fifth of the steps: predictor=None, on the "
                "command line predictor=null), or take more steps"
            )

    def on_weights(self, model: str, revision: str | None) -> "Adaptive":
        """The same; without its predictor, and with a warning, where that is our calibration, of other weights."""
        by = self.predictor
        if by is None or by != shipped() or by.of_these(model, revision):
            return self
        warnings.warn(FOREIGN.format(by.model, by.weights[:12], self.needed), ProbeWarning, stacklevel=2)
        return self.model_copy(update={"predictor": None})

    def now(self, step: int, seen: Sequence[Score]) -> LatentIntervention | None:
        """Look, leave alone, or nurse those that are expected to fail and are not held yet."""
        if len(seen) < self.watch:
            return self.model_copy(update={"strength": 0.0})
        failing = tuple(s for s in self.failing(seen[: self.watch]) if not self._is_held(s, seen[self.watch :]))
        return self.model_copy(update={"nursed": failing}) if failing else None

    def failing(self, seen: Sequence[Score]) -> tuple[str, ...]:
        """The subjects that are expected to fail, from the scores of the watched steps."""
        signals = self.signals(seen)
        return tuple(s for s in self.subjects if self._fails(signals[s]))

    def _fails(self, signals: Mapping[str, float]) -> bool:
        risk = None if self.predictor is None else self.predictor.probability(signals)
        if risk is not None and not 0 <= risk <= 1:
            raise BadInput(f"the predictor gave the probability {risk}; expected 0 to 1, or None where it cannot tell")
        return signals["presence"] < self.needed if risk is None else risk >= self._bar

    @property
    def _bar(self) -> float:
        return getattr(self.predictor, "threshold", CERTAIN) if self.certain is None else self.certain

    def target(self, step: int) -> float | None:
        """The first nursed step is refined until what was missing is there."""
        return 1 - self.needed if step == self.watch else super().target(step)

    def score(self, maps: Maps) -> Score:
        found = peaks(sharp_planes(maps, self.subjects))
        loss = neglect(found[s] for s in self.nursed or self.subjects)
        planes = {s: maps.A[..., maps.positions[s][-1]].detach() for s in self.subjects}
        return Score(loss, {s: float(value.detach()) for s, value in found.items()}, planes=planes)

    def _is_held(self, subject: str, seen: Sequence[Score]) -> bool:
        last = [score.subjects[subject] >= self.held for score in seen[-self.steady :]]
        return len(last) == self.steady and all(last)

    def signals(self, seen: Sequence[Score]) -> dict[str, dict[str, float]]:
        """What a diagnosis would read of these steps, by subject."""
        planes = {s: torch.stack([score.planes[s].float().cpu() for score in seen]) for s in self.subjects}
        presence = np.array([[score.subjects[s] for score in seen] for s in self.subjects])
        found = attended(planes, presence)
        return {s: summary(found, s) for s in self.subjects}
