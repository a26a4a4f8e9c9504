"""What a recording was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from probe.attach.budget import BUDGET
from probe.attach.keeping import Wish
from probe.attach.related import Asked
from probe.attach.relevant import Relevancy
from probe.intervention import LatentIntervention


@dataclass(frozen=True)
class Request:
    """What to record. `words` None means the content words (and, in cross-attention, the special tokens)."""

    words: tuple[str, ...] | None = None
    sites: str | Sequence[str] | None = None
    branches: tuple[str, ...] = ("cond",)
    interventions: tuple[LatentIntervention, ...] = ()
    relevancy: Relevancy | None = None
    keep: Wish = field(default_factory=Wish)
    budget: int = BUDGET
    related: Asked = field(default_factory=Asked)
