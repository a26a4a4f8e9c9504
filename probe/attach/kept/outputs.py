"""Outputs of named modules under the recording's clock: norms over channels, means of channels, or all of them.

A module that runs again in the same pass is another one, "path-run2"; what else it returns beside its first value is
"path-1", "path-2", by its place (in joint blocks the text's states come first and the picture's second).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from probe.attach.kept.keeping import Kept
from probe.attach.kept.passes import Pass
from probe.attach.kept.related import Held
from probe.attach.model.families import grid_of
from probe.attach.model.layout import Plane
from probe.attach.precision import own_precision
from probe.axes import BRANCH, CHANNEL, FRAME, IMAGE, STEP, TOKEN, X, Y
from probe.errors import MissingReadings, NoMatch, OverBudget

WHOLE = ":whole"
LISTED = 60  # modules in a message
RUN = "-run"
NAMES = ("norm", "mean", "output")
AXES = {1: (CHANNEL,), 2: (TOKEN, CHANNEL), 3: (CHANNEL, Y, X), 4: (CHANNEL, FRAME, Y, X)}  # of one row, by rank
Axes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A module whose output is kept, and the pattern that named it."""

    path: str
    module: nn.Module
    pattern: str
    whole: bool


def choose(denoisers: Mapping[str, nn.Module], patterns: Sequence[str]) -> tuple[Chosen, ...]:
    """The modules that patterns name: "mid_block", "*.ff", "unet.*.ff:whole". Raises NoMatch, listing what there is."""
    if not patterns:
        return ()
    every = {
        f"{name}.{path}": part for name, whole in denoisers.items() for path, part in whole.named_modules() if path
    }
    found: dict[str, Chosen] = {}
    for pattern in patterns:
        name, whole = pattern.removesuffix(WHOLE), pattern.endswith(WHOLE)
        some = [path for path in every if fnmatchcase(path, name) or fnmatchcase(path.partition(".")[2], name)]
        if not some:
            blocks = [path for path in every if path.count(".") <= 2][:LISTED]
            raise NoMatch(f"modules={pattern!r} names no module of the denoiser; there are: {', '.join(blocks)}, ...")
        for path in some:
            known = path in found and found[path].whole
            found[path] = Chosen(path, every[path], pattern, whole or known)
    return tuple(found.values())


@dataclass
class OutputReader:
    """What the chosen modules gave, by name, branch, picture and group of steps; on the model's device."""

    chosen: tuple[Chosen, ...] = ()
    branches: tuple[str, ...] = ("cond",)
    limit: int = 2**31
    held: dict[str, dict[tuple[str, int, int], Held]] = field(default_factory=dict)
    axes: dict[str, Axes] = field(default_factory=dict)  # of one row's output, by name
    projected: int = 0  # bytes that will be held at the end
    _runs: Counter[str] = field(default_factory=Counter)  # of each module, in this pass
    _gave: set[str] = field(default_factory=set)

    def begin_pass(self) -> None:
        """A forward pass of a denoiser starts."""
        self._runs.clear()

    @own_precision()
    def read(self, one: Chosen, output: Any, current: Pass, kept: Kept) -> None:
        """A chosen module has run. Raises OverBudget as soon as the run would hold more than it may."""
        self._runs[one.path] += 1
        again = f"{RUN}{self._runs[one.path]}" if self._runs[one.path] > 1 else ""
        for place, value in tensors(output):
            laid = laid_out(value, current)
            if laid is None:
                continue
            self._gave.add(one.path)
            name = f"{one.path}{again}{f'-{place}' if place else ''}"
            self.axes.setdefault(name, laid[1])
            for row, part in zip(current.rows, laid[0], strict=True):
                if row.branch in self.branches and kept.wants(current.step):
                    values = reduced(part.detach().float(), laid[1], whole=one.whole)
                    self._keep(name, (row.branch, row.image, kept.slot(current.step)), values, len(kept.slots.slots))

    def _keep(self, name: str, key: tuple[str, int, int], values: list[Tensor], slots: int) -> None:
        held = self.held.setdefault(name, {})
        if key in held:
            held[key].add(values)
            return
        if key[:2] not in {other[:2] for other in held}:
            self._allow(name, 4 * slots * sum(value.numel() for value in values))
        held[key] = Held(values)

    def _allow(self, name: str, size: int) -> None:
        self.projected += size
        if self.projected > self.limit:
            raise OverBudget(
                f"the outputs of modules would fill more than {self.limit:,} bytes, with {size:,} of {name}: "
                f'name fewer modules, leave out "{WHOLE}", read fewer steps (steps=...), or allow more with budget='
            )

    def end_pass(self, denoiser: str) -> None:
        """A pass has ended. Raises MissingReadings for a pattern that names only what gives nothing by row."""
        own = [one for one in self.chosen if one.path.partition(".")[0] == denoiser]
        gave = {one.pattern for one in own if one.path in self._gave}
        silent = [one for one in own if one.pattern not in gave]
        if silent:
            raise MissingReadings(
                f"modules={silent[0].pattern!r}: {silent[0].path} ({type(silent[0].module).__name__}) gave no tensor "
                "with a row for each picture, or did not run; name the modules inside of it, or those around it"
            )

    def nodes(self, kept: Kept, ran: set[tuple[int, str, str]], times: Sequence[float]) -> dict[str, xr.Dataset]:
        """A node a module. `ran` are step, denoiser and branch of all passes, `times` the steps' timesteps."""
        for name in self.held:
            self._check(name, kept, ran)
        return {f"/modules/{name}": self._node(name, kept, times) for name in self.held}

    def _check(self, name: str, kept: Kept, ran: set[tuple[int, str, str]]) -> None:
        """A module that gave something gives it at every step. Raises MissingReadings."""
        held, denoiser = self.held[name], name.partition(".")[0]
        for branch, image in {key[:2] for key in held if RUN not in name}:
            for slot, group in enumerate(kept.slots.slots):
                steps = [step for step in group if (step, denoiser, branch) in ran]
                own = held.get((branch, image, slot))
                if len(steps) != (own.count if own is not None else 0):
                    raise MissingReadings(
                        f"module {name} gave no output at one of the steps {steps} (branch {branch}); it did at "
                        "others. Leave it out of modules=, or switch off what skips it (caches, layer skipping)"
                    )

    def _node(self, name: str, kept: Kept, times: Sequence[float]) -> xr.Dataset:
        held, clock = self.held[name], kept.clock(times)
        branches = [branch for branch in self.branches if any(branch == key[0] for key in held)]
        images = sorted({image for _, image, _ in held})
        outer = (len(clock[STEP]), len(branches), len(images))
        like = next(iter(held.values())).values
        arrays = [np.full((*outer, *value.shape), np.nan, np.float32) for value in like]
        for (branch, image, slot), own in held.items():
            at = (slot, branches.index(branch), images.index(image))
            for array, value in zip(arrays, own.values, strict=True):
                array[at] = (value / own.count).cpu().numpy()
        named = zip(NAMES, _kinds(self.axes[name]), arrays, strict=False)
        variables = {kind: ((STEP, BRANCH, IMAGE, *axes), array) for kind, axes, array in named}
        return xr.Dataset(variables, coords={**clock, BRANCH: branches, IMAGE: images})


def tensors(output: Any) -> Iterator[tuple[int, Tensor]]:
    """The tensors that a module returned, with their places."""
    several = output.values() if isinstance(output, Mapping) else output
    parts = several if isinstance(several, Iterable) and not isinstance(several, Tensor) else (several,)
    yield from ((i, value) for i, value in enumerate(parts) if isinstance(value, Tensor))


def laid_out(value: Tensor, current: Pass) -> tuple[Tensor, Axes] | None:
    """The value [row, ...] and the names of the axes behind the row; None where it has no rows of the batch.

    Frames, or the cells of a film, may lie in the batch. Tokens that are the picture's cells become planes.
    """
    rows, where = len(current.rows), current.plane
    rank = value.ndim - 1
    if rank not in AXES or value.shape[0] % rows or (rank > 2 and not _alike(value, where)):
        return None
    each, axes = value.shape[0] // rows, AXES[rank]
    value = value.unflatten(0, (rows, each))
    grid = grid_of(each, where.height, where.width)
    if each in (1, where.frames):
        front: Axes = (FRAME,) if each > 1 else ()
    elif grid is not None and axes == (TOKEN, CHANNEL) and value.shape[2] == where.frames:
        return value.unflatten(1, grid), (Y, X, FRAME, CHANNEL)
    else:
        return None
    value = value if front else value.squeeze(1)
    if axes == (TOKEN, CHANNEL):
        value, axes = _planes(value, current, bool(front))
    return value, (*front, *axes)


def _alike(value: Tensor, where: Plane) -> bool:
    """Whether the last two axes are the picture's height and width, shrunk or grown, up to rounding."""
    y, x = value.shape[-2:]
    return abs(y * where.width - x * where.height) <= max(where.height, where.width)


def _planes(value: Tensor, current: Pass, folded: bool) -> tuple[Tensor, Axes]:
    """Tokens [row, (frame,) n, channel] as a plane, where they are its cells and not the text's columns."""
    where, n = current.plane, value.shape[-2]
    frames = 1 if folded or n % where.frames else where.frames
    grid = grid_of(n // frames, where.height, where.width)
    if grid is None or n in {current.text, *current.texts}:
        return value, (TOKEN, CHANNEL)
    if frames == 1:
        return value.unflatten(-2, grid), (Y, X, CHANNEL)
    return value.unflatten(-2, (frames, *grid)), (FRAME, Y, X, CHANNEL)


def reduced(part: Tensor, axes: Axes, *, whole: bool) -> list[Tensor]:
    """One row's output as L2 norms over its channels, the channels' means over all else and, `whole`, a copy of it."""
    channel = axes.index(CHANNEL)
    norm = torch.linalg.vector_norm(part, dim=channel)
    mean = part.movedim(channel, 0).flatten(1).mean(1) if part.ndim > 1 else part.clone()
    return [norm, mean, *([part.clone()] if whole else [])]


def _kinds(axes: Axes) -> tuple[Axes, Axes, Axes]:
    """The axes of norm, mean and output."""
    return tuple(axis for axis in axes if axis != CHANNEL), (CHANNEL,), axes
