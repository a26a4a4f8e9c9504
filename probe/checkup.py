"""What this installation can do, and with a model: two steps on its own weights."""

import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from probe._version import __version__

DISTRIBUTION = "diffusion-probe"
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "xarray", "zarr", "numcodecs", "numpy", "captum")
EXTRAS = {"dashboard": ("streamlit",), "dev": ("pytest", "hypothesis", "playwright")}
GIB = 2**30
ENOUGH_MEMORY, ENOUGH_DISK = 2 * GIB, 1 * GIB
PROMPT, STEPS = "a cat and a red balloon", 2
HONESTY = "verified on tiny pipelines with random weights of the real classes, not on the published weights"


@dataclass(frozen=True)
class Trial:
    """Two steps of a model, without and with a recording."""

    model: str
    family: str
    sites: int
    words: tuple[str, ...]
    identical: bool  # the picture with a recording equals the picture without, to the bit
    held: int  # bytes of the trace
    seconds: tuple[float, float]  # without, with

    def __str__(self) -> str:
        plain, recorded = self.seconds
        return "\n".join(
            (
                f"model       {self.model} ({self.family})",
                f"  sites     {self.sites}, each with readings at both steps",
                f"  words     {', '.join(self.words)}",
                f"  picture   {'identical to the bit' if self.identical else 'CHANGED by the recording'}",
                f"  cost      {plain:.2f} s without, {recorded:.2f} s with; {self.held:,} bytes held",
            )
        )


@dataclass(frozen=True)
class Checkup:
    """The findings. `str()` of it can be pasted into an issue."""

    versions: dict[str, str]
    device: str
    memory: tuple[int, int]  # bytes free, bytes in all
    disk: int  # bytes free here
    extras: dict[str, bool]
    families: tuple[str, ...]
    trial: Trial | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        free, total = self.memory
        extras = (f"{name} {'installed' if there else 'not installed'}" for name, there in self.extras.items())
        rows = [
            "versions    " + ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            f"device      {self.device}",
            f"memory      {free / GIB:.1f} of {total / GIB:.1f} GiB free",
            f"disk        {self.disk / GIB:.1f} GiB free here",
            f"extras      {', '.join(extras)}",
            f"families    {', '.join(self.families)}",
            f"            {HONESTY}",
            *([str(self.trial)] if self.trial else []),
            "verdict     " + ("; ".join(self.problems) if self.problems else "all well"),
        ]
        return "\n".join(rows)


def doctor(model: Any = None) -> Checkup:
    """Look at the installation; with `model` (what `probe.load` takes), try it for two steps as well.

    Raises what `probe.load` and `probe.record` raise for a model that cannot be used.
    """
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    trial = _try(model) if model is not None else None
    problems = [*unmet(_requirements()), *scarce(memory.available, disk.free)]
    if trial is not None and not trial.identical:
        problems.append("recording changed the picture")
    return Checkup(
        versions=_versions(),
        device=_device(),
        memory=(memory.available, memory.total),
        disk=disk.free,
        extras={name: all(map(_version, packages)) for name, packages in EXTRAS.items()},
        families=_families(),
        trial=trial,
        problems=tuple(problems),
    )


def _versions() -> dict[str, str]:
    own = {"probe": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    return own | {package: _version(package) or "missing" for package in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _requirements() -> list[str]:
    """What this package asks for; nothing if it runs without having been installed."""
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def unmet(requirements: Sequence[str]) -> list[str]:
    """Which requirements (of no extra) the installed versions do not meet, and the remedy."""
    wanted = [r for r in map(Requirement, requirements) if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = {r.name: _version(r.name) for r in wanted}
    failed = [r for r in wanted if not r.specifier.contains(found[r.name] or "0", prereleases=True)]
    held = {name: f"{version} is installed" if version else "is missing" for name, version in found.items()}
    return [f"{r.name} {held[r.name]}, needed is {r}: pip install '{r}'" for r in failed]


def scarce(memory: int, disk: int) -> list[str]:
    """What there is too little of, in bytes free."""
    rows = (("memory free", memory, ENOUGH_MEMORY), ("disk free here", disk, ENOUGH_DISK))
    return [
        f"only {free / GIB:.1f} GiB of {name}, {enough / GIB:.0f} are comfortable"
        for name, free, enough in rows
        if free < enough
    ]


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        _, total = torch.cuda.mem_get_info(0)
        return f"cuda, {torch.cuda.get_device_name(0)}, {total / GIB:.0f} GiB"
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu, {torch.get_num_threads()} threads on {os.cpu_count()} cores"


def _families() -> tuple[str, ...]:
    from probe.attach.families import FAMILIES

    return tuple(dict.fromkeys(family.name for family in FAMILIES.values()))


def _try(model: Any) -> Trial:
    """Two steps twice from the same noise, plain and recorded."""
    import numpy as np

    from probe.attach.record import record
    from probe.generator.weights import load

    pipe = load(model)
    if pipe is not model:
        pipe.set_progress_bar_config(disable=True)
    plain, without = _timed(lambda: _picture(pipe))
    with record(pipe) as recording:
        recorded, during = _timed(lambda: _picture(pipe))
    trace = recording.trace
    return Trial(
        model=trace.run.model,
        family=trace.run.family,
        sites=len(trace.sites),
        words=trace.labels,
        identical=bool(np.array_equal(plain, recorded)),
        held=trace.nbytes,
        seconds=(without, during),
    )


def _picture(pipe: Any) -> Any:
    """[image, y, x, rgb] of two steps from the noise of seed 0."""
    from torch import Generator

    return pipe(PROMPT, num_inference_steps=STEPS, generator=Generator("cpu").manual_seed(0), output_type="np")[0]


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started
