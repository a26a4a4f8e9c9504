"""A site: a named place in the denoiser where attention can be read or changed."""

import fnmatch
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from probe.axes import Kind
from probe.errors import NoMatch


class Site(BaseModel):
    """A place in the denoiser. `path` is the module's name, `order` its rank in the forward pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: Kind
    grid: tuple[int, int]  # height, width in cells
    heads: int
    order: int = 0
    frames: int = 1

    @property
    def group(self) -> str:
        """The part of the network it belongs to: "down", "mid", "up", or the name of the block list."""
        steps = self.path.split(".")
        head = next((step for step in steps if "block" in step), steps[0])
        return head.removesuffix("_blocks").removesuffix("_block")

    def __lt__(self, other: "Site") -> bool:
        return (self.order, self.path) < (other.order, other.path)


def select(
    sites: Sequence[Site],
    pattern: str | Sequence[str] | None = None,
    *,
    kind: Kind | None = None,
    grid: tuple[int, int] | None = None,
) -> tuple[Site, ...]:
    """The sites whose path matches a pattern (`*` wildcards, or a part of the path), a kind and a grid.

    Raises NoMatch, listing what there is, when nothing matches a pattern, or one of several.
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern
    chosen = tuple(
        site
        for site in sorted(sites)
        if (patterns is None or any(matches(site.path, p) for p in patterns))
        and (kind is None or site.kind == kind)
        and (grid is None or site.grid == tuple(grid))
    )
    dead = [p for p in patterns or () if not any(matches(site.path, p) for site in chosen)]
    if not chosen or dead:
        listed = "\n".join(f"  {s.path} ({s.kind}, {s.grid[0]} x {s.grid[1]})" for s in sorted(sites))
        asked = f"pattern={dead[0] if chosen else pattern!r}, kind={kind!r}, grid={grid!r}"
        raise NoMatch(f"no site matches {asked}; there are:\n{listed or '  none'}")
    return chosen


def matches(path: str, pattern: str) -> bool:
    return pattern in path or fnmatch.fnmatch(path, pattern)


def matching(path: str, patterns: Sequence[str]) -> bool:
    """Whether a module is one of those named; none named are all."""
    return not patterns or any(matches(path, pattern) for pattern in patterns)
