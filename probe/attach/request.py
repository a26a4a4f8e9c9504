"""What a recording was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from probe.attach.asked.inquiry import Inquiry
from probe.attach.kept.budget import BUDGET
from probe.attach.kept.keeping import Wish
from probe.attach.kept.related import Asked
from probe.attach.kept.states import Layers
from probe.intervention import Intervention
from probe.site import matches


@dataclass(frozen=True)
class Request:
    """What to record. `words` None means the content words (and, in cross-attention, the special tokens)."""

    words: tuple[str, ...] | None = None
    sites: str | Sequence[str] | None = None
    branches: tuple[str, ...] = ("cond",)
    interventions: tuple[Intervention, ...] = ()
    inquiries: tuple[Inquiry, ...] = ()
    keep: Wish = field(default_factory=Wish)
    budget: int = BUDGET
    related: Asked = field(default_factory=Asked)
    modules: tuple[str, ...] = ()
    text_states: Layers = False
    exact: bool = False

    def wants(self, path: str) -> bool:
        """Whether a module is among the chosen sites."""
        patterns = [self.sites] if isinstance(self.sites, str) else self.sites
        return patterns is None or any(matches(path, pattern) for pattern in patterns)
