"""What the scheduler was given at each step, at which noise level, and how far it went.

x_t = alpha * x_0 + sigma * eps, and the scheduler keeps scale * x_t. alpha squared is alpha-bar; sigma / alpha is the
sigma of Karras et al. 2022; for flows alpha is 1 - sigma.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from probe.attach.kept.guidance import norm
from probe.attach.model.prediction import Level
from probe.axes import IMAGE, STEP


@dataclass
class StepReader:
    """Levels by step, and norms [image] of what the scheduler was given and of the way that it went."""

    levels: list[Level] = field(default_factory=list)
    norms: list[dict[str, Tensor]] = field(default_factory=list)
    _sample: Tensor | None = None

    def begin(self, output: Tensor, level: Level, sample: Tensor) -> None:
        """The scheduler is about to step from `sample`."""
        self.levels.append(level)
        self.norms.append({"output_norm": norm(output.detach()), "sample_norm": norm(sample.detach())})
        self._sample = sample.detach()

    def end(self, sample: Tensor) -> None:
        """It has stepped to `sample`."""
        if self._sample is not None:
            self.norms[-1]["step_norm"] = norm(sample.float() - self._sample.float())
        self._sample = None

    def variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """All of it by step, on the host."""
        levels = {name: [getattr(level, name) for level in self.levels] for name in ("alpha", "sigma", "scale")}
        norms = {name: torch.stack([row[name] for row in self.norms]).cpu().numpy() for name in self.norms[0]}
        return {name: ((STEP,), np.array(values, np.float32)) for name, values in levels.items()} | {
            name: ((STEP, IMAGE), values) for name, values in norms.items()
        }
