"""What the judge thinks of the predicted picture, as a target of relevancy: which word makes it see a subject."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from probe.errors import BadInput
from probe.generator.judge import Judge, meaning
from probe.generator.world import SIDE
from probe.generator.world import vocabulary as v


@dataclass(frozen=True)
class JudgeLogit:
    """The judge's logit of a subject in the predicted picture: a smooth maximum (log-sum-exp) over pixels and kinds.

        probe.record(pipe, explain=probe.Relevancy(target=JudgeLogit(weights.judge(), "cat")))

    It holds in Menagerie's world alone. Early predictions are blurred, and the judge has never seen blur.
    """

    judge: Judge
    word: str

    def __post_init__(self) -> None:
        if not meaning(self.word):
            raise BadInput(f"the judge knows no {self.word!r}; it knows {', '.join(v.KINDS)}")

    @property
    def name(self) -> str:
        """What a trace calls it."""
        return f"judge's logit of {self.word!r}"

    def __call__(self, seen: Any) -> Tensor:
        """`seen` is a `probe.attach.relevance.targets.Seen`."""
        picture = F.interpolate(seen.picture.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        kinds = [1 + v.KINDS.index(kind) for kind in sorted(meaning(self.word))]
        return seen.inside(self.judge.network(picture)["kind"][:, kinds]).logsumexp((0, 1, 2, 3))
