"""What a recording was asked for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from probe.attach.asked.inquiry import Inquiry
from probe.attach.kept.budget import BUDGET
from probe.attach.kept.keeping import Wish
from probe.attach.kept.related import Asked
from probe.attach.kept.states import Layers
from probe.attach.text.lexicon import EVERY
from probe.errors import NoMatch, UnknownFamily
from probe.intervention import Intervention
from probe.site import matches

BRANCHES = ("cond", "uncond", "negative")


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

    @property
    def reads(self) -> tuple[str, ...]:
        """The branches by name: "*" are all."""
        return BRANCHES if EVERY in self.branches else self.branches

    def check_branches(self, ran: Collection[str]) -> None:
        """Raises NoMatch where a branch that was asked for by its name did not run."""
        absent = [branch for branch in self.branches if branch not in (*ran, EVERY)]
        if absent:
            raise NoMatch(
                f"branches={list(self.branches)}: {', '.join(absent)} did not run; there were "
                f"{', '.join(sorted(ran))}. Leave it out, or take branches=['*'], all that run. The branch beside cond "
                "is 'negative' with a negative prompt, else 'uncond', and needs a guidance_scale above 1"
            )

    def nothing(self, paths: Collection[str]) -> NoMatch | UnknownFamily:
        """The error where no attention module is among the chosen sites, or where there is none at all."""
        if paths:
            listed = "\n  ".join(paths)
            return NoMatch(f"sites={self.sites!r} matches none of the attention modules:\n  {listed}")
        return UnknownFamily(
            "the denoiser has no attention module that is known as one: a module with a processor and with a part that "
            "projects queries (to_q, to_qkv, img_qkv_proj, ...), as diffusers writes them"
        )

    def wants(self, path: str) -> bool:
        """Whether a module is among the chosen sites."""
        patterns = [self.sites] if isinstance(self.sites, str) else self.sites
        return patterns is None or any(matches(path, pattern) for pattern in patterns)
