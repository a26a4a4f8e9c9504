"""What a recording costs, and the change that makes it fit and loses least; what to do where nothing was seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import nn

from probe.attach.kept.keeping import Wish
from probe.attach.kept.passes import Pass, Place
from probe.errors import MissingReadings, NoMatch
from probe.site import Site

FLOAT = 4
LISTED = 8  # modules in a message

SKIPPED = "They did before: switch off what skips them while recording, e.g. a cache (pipe.transformer.disable_cache())"
STALE = (
    "A cache skips them and still holds what it kept of a run that broke off: switch it off while recording "
    "(pipe.transformer.disable_cache()), or on anew after that (pipe.transformer.enable_cache(config))"
)
UNSEEN = (
    "They do not use torch's fused attention: switch off attention slicing, xFormers or Sage attention, and eager "
    "processors, while recording (pipe.disable_attention_slicing(), "
    "pipe.disable_xformers_memory_efficient_attention(), pipe.unet.set_attn_processor(AttnProcessor2_0()), "
    'pipe.transformer.set_attention_backend("native")). Linear attention has no weights: name such modules in '
    'Family(silent=...). Where a pipeline needs its own processor for them, record the others: sites=["*attn2*"]'
)
UNHEARD = (
    "the denoiser runs and no prompt was encoded, so interventions cannot find their words: give the prompt itself, "
    "or encode it inside the block (embeds = pipe.encode_prompt(...))"
)
NOTHING = (
    "nothing was recorded: call the pipeline inside the block (`with probe.record(pipe) as recording: pipe(prompt)`) "
    "and in the thread that entered it, for what other threads run is not seen; read `recording.trace` after the block"
)
DRY = "nothing was recorded: dry_run=True asks for recording.estimate alone; leave it out to record"
UNENDED = (
    "the denoiser ran on after the last step of pipe.scheduler, interrupted or under a copy of it: the trace holds the "
    "steps before, and pictures that come of all"
)
UNSTEPPED = (
    "nothing was recorded: the denoiser ran, but pipe.scheduler made no step, so it cannot be told which step a pass "
    "belongs to. The pipeline steps copies of its scheduler, one a frame, or another one: record a pipeline of the "
    "same model that steps pipe.scheduler itself (SkyReelsV2Pipeline for SkyReelsV2DiffusionForcingPipeline)"
)


def unheard(silent: Sequence[str], ran: int, step: int, *, before: bool) -> MissingReadings:
    """The error for attention modules without a call in a pass; `before`: whether an earlier pass had one."""
    return MissingReadings(
        f"{len(silent)} of {ran} attention modules gave no reading at step {step}: {', '.join(silent[:4])}. "
        f"{SKIPPED if before else UNSEEN}"
    )


def check_cache(module: nn.Module, current: Pass, ran: set[str], due: set[str]) -> None:
    """Of a denoiser that caches, all attention modules are due at the first step, where nothing is kept of this run
    yet, but for turns that run again. Raises MissingReadings for those that did not run.
    """
    if current.step or not getattr(module, "is_cache_enabled", False) or any("#" in row.branch for row in current.rows):
        return
    own = {path for path in due if path.partition(".")[0] == current.denoiser}
    absent = sorted(own - ran)
    if absent:
        raise MissingReadings(
            f"{len(absent)} of {len(own)} attention modules did not run at step 0: {', '.join(absent[:4])}. {STALE}"
        )


def wordless(places: Mapping[tuple[str, int], Place]) -> NoMatch:
    """The error where words are wanted and none of the modules that ran has cells that attend to them."""
    found = {path: "other" if place.site is None else place.site.kind for (path, _), place in places.items()}
    listed = ", ".join(f"{path} ({kind})" for path, kind in list(found.items())[:LISTED])
    return NoMatch(
        f"none of the {len(found)} chosen sites reads words, for no cell attends to the text there: {listed}"
        f'{", ..." if len(found) > LISTED else ""}. Choose others (of a U-Net: sites="attn2"), ask for what these '
        'have (relations=["image->image"]), or record no words (words=[])'
    )


@dataclass(frozen=True)
class Cost:
    """What decides the bytes. `rest` are those of all else; `content` counts the labels that are content words."""

    sites: tuple[Site, ...]
    wish: Wish
    steps: int
    branches: int
    images: int
    labels: tuple[str, ...]
    content: int
    rest: dict[str, int]

    @property
    def readings(self) -> int:
        """Readings over time."""
        return len(replace(self.wish, steps=None).slots(self.steps).slots)

    @property
    def parts(self) -> dict[str, int]:
        each = FLOAT * self.readings * self.branches * self.images * len(self.labels)
        names = sum(FLOAT * max(len(site.path) for site in self.sites) for _ in self.sites) if self.labels else 0
        means = each * sum(_cells(site) for site in self.sites) + names
        apart = {"heads": each * self._heads()} if self.wish.heads is not None else {}
        return {"attention": means, **apart, **self.rest}

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def _heads(self) -> int:
        """Cells times heads; where sites of a grid differ in heads, all take as many as the one that has most."""
        most: dict[tuple[int, ...], int] = {}
        for site in self.sites:
            grid = (site.frames, *site.grid)
            most[grid] = max(most.get(grid, 0), len(self.wish.chosen_heads(site.heads)))
        return sum(_cells(site) * most[site.frames, *site.grid] for site in self.sites)


def _cells(site: Site) -> int:
    return site.frames * prod(site.grid)


def remedy(cost: Cost, limit: int) -> str:
    """The change that fits and keeps most, or the two changes where no single one fits."""
    for ways in (changes(cost), _pairs(cost)):
        fitting = [(other.total, text) for text, other in ways if other.total <= limit]
        if fitting:
            kept, text = max(fitting)
            return f"The cheapest change that fits: {text} ({kept:,} bytes)"
    always = sum(cost.rest.values())
    return f"No two changes of heads, words, steps or sites make it fit: all but attention is {always:,} bytes"


def _pairs(cost: Cost) -> Iterator[tuple[str, Cost]]:
    """Two changes of different arguments."""
    for first, less in changes(cost):
        for second, least in changes(less):
            if first.partition("=")[0] != second.partition("=")[0]:
                yield f"{first}, {second}", least


def changes(cost: Cost) -> Iterator[tuple[str, Cost]]:
    """Ways to ask for less, each as it is written, from much to little."""
    wish = cost.wish
    if wish.heads is not None:
        level = "maps" if wish.level == "full" else wish.level
        yield _written(level, wish, "heads=None"), replace(cost, wish=replace(wish, level=level, heads=None))
    if wish.level != "summary" and cost.content:
        less = replace(cost, wish=Wish(steps=wish.steps), labels=cost.labels[: cost.content])
        yield 'keep="summary"', less
    for every in (2, 3, 4, 5, 10, 20, 50):
        if wish.steps is None and every < cost.steps:
            yield f"steps=slice(None, None, {every})", replace(cost, steps=-(-cost.steps // every))
    if wish.level == "summary":
        fewer = {-(-cost.steps // size) for size in range(2, cost.steps + 1)} - {cost.readings}
        for groups in sorted(fewer, reverse=True):
            yield f"groups={groups}", replace(cost, wish=replace(wish, groups=groups))
    for count in range(len(cost.labels) - 1, 0, -1):
        some = cost.labels[:count]
        yield f"words={list(some)}", replace(cost, labels=some)
    yield from _coarser(cost)


def _written(level: str, wish: Wish, text: str) -> str:
    return text if level == wish.level else f'keep="{level}"'


def _coarser(cost: Cost) -> Iterator[tuple[str, Cost]]:
    """Without the sites of the finest grids, as the blocks that are left."""
    sizes = sorted({_cells(site) for site in cost.sites}, reverse=True)
    for size in sizes[1:]:
        left = tuple(site for site in cost.sites if _cells(site) <= size)
        yield f"sites={_blocks(left)}", replace(cost, sites=left)


def _blocks(sites: Sequence[Site]) -> list[str]:
    """Patterns of the blocks that hold these sites: "down_blocks.2", "mid_block"."""
    parts = [site.path.split(".") for site in sites]
    return list(dict.fromkeys(".".join(p[1:3]) if p[2].isdigit() else p[1] for p in parts))
