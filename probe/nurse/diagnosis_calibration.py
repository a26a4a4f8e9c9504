"""From signals to a probability: coefficients that were fitted on Menagerie against its judge.

They are of one model, one world and one judge, and say nothing of other weights: there the rules of a diagnosis decide.
There are three: of attention alone, with the relevancy of the words at the last step that is looked at, and with what
the judge expects when it looks at the picture which that step predicts.
`experiments/calibrate_diagnosis.py` fits them and writes the files.
"""

from collections.abc import Mapping
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from probe.errors import DamagedFile
from probe.nurse.diagnosis_signals import chance
from probe.trace import Trace

Kind = Literal["attention", "relevancy", "preview"]
SHIPPED: Mapping[Kind, Path] = {
    "attention": Path(__file__).with_name("calibration.json"),
    "relevancy": Path(__file__).with_name("calibration_relevancy.json"),
    "preview": Path(__file__).with_name("calibration_preview.json"),
}


class Calibration(BaseModel):
    """A logistic regression of "neglected" on signals of the first `until` of `steps` steps.

    From a probability of `threshold` on a subject counts as neglected. `auc` is cross-validated over prompts, on
    `pictures` pictures; `weights` is the digest of the model's weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    signals: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    threshold: float = Field(gt=0, lt=1)
    until: int
    steps: int
    auc: float
    pictures: int
    model: str
    weights: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = [len(getattr(self, name)) for name in ("signals", "mean", "scale", "coefficients")]
        if len(set(sizes)) > 1 or not sizes[0] or min(self.scale) <= 0:
            raise ValueError(
                f"signals, mean, scale and coefficients are {sizes} numbers, the scales {self.scale}; expected as many "
                "of each, one at least, and scales above 0"
            )
        return self

    def probability(self, signals: Mapping[str, float]) -> float | None:
        """How likely a subject is neglected, 0..1; None where a signal is missing."""
        values = [signals.get(name, float("nan")) for name in self.signals]
        if not all(map(isfinite, values)):
            return None
        scaled = ((x - m) / s for x, m, s in zip(values, self.mean, self.scale, strict=True))
        return chance(self.intercept + sum(c * z for c, z in zip(self.coefficients, scaled, strict=True)))

    def span(self, steps: int) -> int:
        """The steps of a run of so many that are the same share of it."""
        return max(1, round(self.until * steps / self.steps))

    def of_these(self, model: str, revision: str | None) -> bool:
        """Whether it was fitted to these weights."""
        return (model, revision) == (self.model, self.weights)

    def doubts(self, trace: Trace, until: int) -> list[str]:
        """What is different here from what it was fitted on, in words."""
        told = []
        if until != self.until or trace.run.steps != self.steps:
            here = f"the first {until} of {trace.run.steps} steps"
            told.append(f"the calibration is of the first {self.until} of {self.steps} steps, this is of {here}")
        return told


@cache
def shipped(kind: Kind = "attention") -> Calibration | None:
    """The calibration of a kind that comes with the package, if there is one. Raises DamagedFile."""
    path = SHIPPED[kind]
    return read(path) if path.is_file() else None


def read(path: Path) -> Calibration:
    """A calibration from its file. Raises DamagedFile."""
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedFile(f"{path} is not a calibration; repeat experiments/calibrate_diagnosis.py") from error
