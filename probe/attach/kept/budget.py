"""Ask first: how many bytes a recording will hold, known before the first pass, and refused where that is too much."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, nn

from probe.attach.kept.guiders import conditions
from probe.attach.kept.keeping import Wish
from probe.attach.kept.outputs import OutputReader
from probe.attach.kept.planes import labels_of
from probe.attach.kept.related import RelationReader
from probe.attach.kept.remedy import FLOAT, Cost, remedy
from probe.attach.kept.thumbnails import thumbnail_bytes
from probe.attach.model.families import denoiser, denoisers
from probe.attach.model.layout import Arguments
from probe.attach.model.survey import Scouts, known_sites, remember, survey
from probe.attach.take import Take
from probe.attach.text.lexicon import wanted_labels
from probe.errors import NoMatch, OverBudget
from probe.site import Site

BUDGET = 2 * 2**30
HEADS = 32  # taken for a module that does not say how many it has
logger = logging.getLogger("probe")


@dataclass(frozen=True)
class Estimate:
    """The bytes that a trace will hold, part by part."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        return f"{readable(self.total)} ({', '.join(f'{name} {readable(size)}' for name, size in self.parts.items())})"


def readable(size: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


class Estimated(Exception):
    """The estimate is there, and nothing else was wanted."""


@dataclass
class Budget:
    """The budget of one generation. `wanted` are the paths of the modules that are watched."""

    pipe: Any
    limit: int
    wanted: tuple[str, ...] = ()
    only: bool = False  # whether the estimate is all that is wanted
    estimate: Estimate | None = None
    _extra: dict[str, int] = field(default_factory=dict)

    def before(self, take: Take, module: nn.Module, given: Arguments, latents: Tensor | None) -> None:
        """A denoiser is about to run. Raises OverBudget or NoMatch before the first pass, if its sites are known."""
        current, kept = take.current, take.attention.kept
        if self.estimate is not None or current is None:
            return
        if not kept.slots.slots:
            kept.plan(run_length(self.pipe))
        scouts, sites = Scouts.of(take), None
        if not scouts.further:
            sites = known_sites(module, current, self.wanted)
        if sites is None and (self.only or scouts.further or self._bound(take, module, latents) > self.limit):
            sites = survey(module, given, scouts.at(current), scouts, wants=self.wanted.__contains__)
        if sites is not None and self._count(take, scouts.attention.relations, scouts.outputs):
            self._judge(take, sites, latents)

    def after(self, take: Take, module: nn.Module, latents: Tensor | None) -> None:
        """The first pass has run: now the sites are known."""
        if self.estimate is None and take.current is not None:
            related, sites = take.attention.relations, take.attention.sites()
            if self._count(take, related, take.outputs):
                if related.asked.words:
                    remember(module, take.current, self.wanted, sites)
                self._judge(take, sites, latents)

    def _count(self, take: Take, related: RelationReader, outputs: OutputReader) -> bool:
        """Note what was asked for beside words; False where the pass was of another branch and nothing is known yet."""
        wanted = self._branches(take)
        seen = {row.branch for row in take.current.rows} & set(wanted) if take.current else set()
        if related.asked.kinds and wanted and not seen:
            return False
        related.check_there()
        whole = related.projected * len(wanted) // len(seen) if seen else related.projected
        whole += self._coordinates(take, related, wanted) if whole else 0
        self._extra |= {"relations": whole} if whole else {}
        self._extra |= {"modules": outputs.projected} if outputs.chosen else {}
        return True

    def _coordinates(self, take: Take, related: RelationReader, branches: Sequence[str]) -> int:
        """Bytes of what stands along the axes of every node of relations; each node has its own."""
        slots, labels = take.attention.kept.slots.slots, _text_bytes(labels_of(take))
        each = 8 * ((3 if any(len(group) > 1 for group in slots) else 2) * len(slots) + max(1, take.pictures_asked))
        total = 0
        for kind in related.held:
            words = {"text->text": 2, "text->image": 1}.get(kind, 0) * labels
            for own in related.shapes(kind).values():
                total += each + words + _text_bytes(branches) + _text_bytes([path for path, _ in own])
        return total

    def _judge(self, take: Take, sites: Sequence[Site], latents: Tensor | None) -> None:
        check_heads(take.attention.kept.wish, sites)
        cost = self._cost(take, sites, latents)
        self.estimate = Estimate(cost.parts)
        logger.info("the recording will hold about %s", self.estimate)
        if self.estimate.total > self.limit:
            raise OverBudget(
                f"the recording would hold about {self.estimate}; the budget is {readable(self.limit)}. "
                f"{remedy(cost, self.limit)}, or allow it: budget={self.estimate.total}"
            )
        if self.only:
            raise Estimated

    def _cost(self, take: Take, sites: Sequence[Site], latents: Tensor | None) -> Cost:
        shape, labels = self._shape(take, latents), labels_of(take)
        content = {
            label for prompt in take.prompts for label in wanted_labels(prompt, None, take.family) if label in labels
        }
        read = tuple(sites) if take.attention.relations.asked.words else ()
        return Cost(
            sites=read * len(denoisers(self.pipe)),
            wish=take.attention.kept.wish,
            steps=sum(map(len, take.attention.kept.slots.slots)),
            branches=len(self._branches(take)),
            images=shape[0],
            labels=tuple(labels),
            content=len(content),
            rest=self._rest(take, shape) | self._further(take),
        )

    def _branches(self, take: Take) -> list[str]:
        read = {branch for branch, _ in take.attention.lexicons}
        return [branch for branch in take.attention.branches if branch in read]

    def _rest(self, take: Take, shape: tuple[int, ...]) -> dict[str, int]:
        """Guidance, latents and thumbnails; `shape` is that of the latents, picture first."""
        steps, images, cells = run_length(self.pipe), shape[0], prod(shape[2:])
        together = {row.branch for row in take.current.rows} if take.current else set()
        branches = max(len(together), conditions(self.pipe, steps), 1 + bool(take.encoded.states.get("other")))
        numbers = 8 * steps * images + steps * images * cells if branches > 1 else 4 * steps * images
        latents = ((2 + branches * (branches > 1)) * steps + 1) * images * shape[1] * cells
        axes, small = 8 * (2 * steps + images), thumbnail_bytes(shape, steps)  # steps, timesteps, pictures
        return {
            "guidance": 4 * numbers + axes,
            "scheduler": 12 * steps * (1 + images) + axes,
            "latents": 2 * latents + axes + 8 * (steps + 1),
            "thumbnails": small + axes if small else 0,
        }

    def _shape(self, take: Take, latents: Tensor | None) -> tuple[int, ...]:
        """[image, channel, ...] of the latents: the pipeline's own, or a part of what the denoiser is given."""
        if latents is not None:
            return tuple(take.planes(latents).shape)
        out = getattr(denoiser(self.pipe)[1].config, "out_channels", None) or take.seen[1]
        return max(1, take.pictures_asked), min(take.seen[1], out), *take.seen[2:]

    def _further(self, take: Take) -> dict[str, int]:
        """What was asked for besides words."""
        text = take.depths.projected(take.encoded)
        return self._extra | ({"text states": text} if text else {})

    def _bound(self, take: Take, module: nn.Module, latents: Tensor | None) -> int:
        """Bytes that the trace cannot exceed."""
        kept, current = take.attention.kept, take.current
        assert current is not None
        modules = dict(module.named_modules())
        reads = self.wanted if take.attention.relations.asked.words else ()
        paths = [path for path in reads if take.family.joint or not path.endswith("attn1")]
        heads = [getattr(modules.get(path.partition(".")[2]), "heads", HEADS) for path in paths]
        planes = sum(1 + len(kept.wish.chosen_heads(count)) for count in heads)
        each = len(kept.slots.slots) * len(self._branches(take)) * max(1, take.pictures_asked) * len(labels_of(take))
        rest = self._rest(take, self._shape(take, latents)) | self._further(take)
        return 4 * planes * each * current.plane.cells + sum(rest.values())


def _text_bytes(names: Sequence[str]) -> int:
    """Bytes of names in one array: each takes as much as the longest."""
    return FLOAT * len(names) * max(map(len, names), default=0)


def run_length(pipe: Any) -> int:
    """How many steps the pipeline is about to make."""
    before = getattr(pipe.scheduler, "begin_index", None) or 0  # steps that are left out, as a picture is begun with
    return int(getattr(pipe, "_num_timesteps", None) or len(pipe.scheduler.timesteps) - before)


def check_heads(wish: Wish, sites: Sequence[Site]) -> None:
    """Every head asked for must be somewhere. Raises NoMatch."""
    most = max((site.heads for site in sites), default=0)
    asked = () if wish.heads is None or wish.heads == "all" else wish.heads
    absent = [head for head in asked if head >= most]
    if absent and sites:
        raise NoMatch(f"heads={list(asked)}: no site has head {absent[0]}; they have up to {most}, from 0")
