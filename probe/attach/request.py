"""What a recording was asked for."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from probe.attach.asked.inquiry import Inquiry
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.budget import BUDGET
from probe.attach.kept.guidance import GuidanceReader
from probe.attach.kept.keeping import Kept, Wish
from probe.attach.kept.outputs import Chosen, OutputReader
from probe.attach.kept.related import Asked, RelationReader
from probe.attach.kept.states import Layers
from probe.attach.model.families import Family
from probe.attach.take import Take
from probe.attach.text.lexicon import EVERY
from probe.errors import NoMatch, UnknownFamily
from probe.intervention import Intervention
from probe.site import matches

Module = TypeVar("Module")
BRANCHES = ("cond", "uncond", "negative")
NAMES = re.compile(rf"({'|'.join(BRANCHES)}|further)(#([2-9]|[1-9]\d+))?")


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
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Raises NoMatch for branches that no pipeline has."""
        wrong = [name for name in self.branches if not (name == EVERY or NAMES.fullmatch(str(name)))]
        if wrong or not self.branches:
            raise NoMatch(
                f"branches={list(self.branches)} "
                f"{f'names {wrong[0]!r}, which no pipeline has' if wrong else 'names none'}; there are "
                f"{', '.join(BRANCHES)}, with a number where they run again in a step ('cond#2'), and '*', all that run"
            )

    def take(self, layout: Family, scheduler: Any, chosen: Sequence[Chosen]) -> Take:
        """The readers of one generation."""
        related = RelationReader(self.related, self.budget, exact=self.exact)
        reader = AttentionReader(layout, self.reads, kept=Kept(self.keep), relations=related, exact=self.exact)
        outputs = OutputReader(tuple(chosen), self.reads, self.budget)
        return Take(reader, GuidanceReader(scheduler), self.words, outputs)

    @property
    def reads(self) -> tuple[str, ...]:
        """The branches by name; of all, those that have one, and "*" for those that run again."""
        return (*BRANCHES, EVERY) if EVERY in self.branches else self.branches

    def check_branches(self, ran: Collection[str]) -> None:
        """Raises NoMatch where a branch that was asked for by its name did not run."""
        absent = [branch for branch in self.branches if branch not in (*ran, EVERY)]
        if absent:
            raise NoMatch(
                f"branches={list(self.branches)}: {', '.join(absent)} did not run; there were "
                f"{', '.join(sorted(ran))}. Leave it out, or take branches=['*'], all that run. The branch beside cond "
                "is 'negative' with a negative prompt, else 'uncond', and needs a guidance_scale above 1"
            )

    def chosen(self, modules: Mapping[str, Module]) -> dict[str, Module]:
        """The attention modules at the chosen sites. Raises NoMatch if a pattern matches none, UnknownFamily if there
        is none at all.
        """
        wanted = {path: module for path, module in modules.items() if self.wants(path)}
        if not wanted or self._dead(modules):
            raise self.nothing(modules)
        return wanted

    def nothing(self, paths: Collection[str]) -> NoMatch | UnknownFamily:
        """The error where no attention module is among the chosen sites, or where there is none at all."""
        if paths:
            listed, dead = "\n  ".join(paths), self._dead(paths)
            said = f"sites={self.sites!r}: {dead[0]!r}" if len(self._patterns) > 1 else f"sites={self.sites!r}"
            return NoMatch(f"{said} matches none of the attention modules:\n  {listed}")
        return UnknownFamily(
            "the denoiser has no attention module that is known as one: a module with a processor and with a part that "
            "projects queries (to_q, to_qkv, img_qkv_proj, ...), as diffusers writes them"
        )

    def wants(self, path: str) -> bool:
        """Whether a module is among the chosen sites."""
        return self.sites is None or any(matches(path, pattern) for pattern in self._patterns)

    @property
    def _patterns(self) -> tuple[str, ...]:
        return (self.sites,) if isinstance(self.sites, str) else tuple(self.sites or ())

    def _dead(self, paths: Collection[str]) -> list[str]:
        """The patterns that match none of the modules."""
        return [pattern for pattern in self._patterns if not any(matches(path, pattern) for path in paths)]
