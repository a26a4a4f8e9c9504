"""What this installation can do, which models it was verified on, and with a model: two steps on its own weights.

`trial` tries a model; `support` holds what the tiny pipelines of all families showed in the same trial.
"""

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from packaging.requirements import Requirement

from probe._version import __version__
from probe.checkup import support
from probe.errors import BadInput, ProbeError

if TYPE_CHECKING:
    from probe.checkup.trial import Trial

DISTRIBUTION = "diffusion-probe"
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "xarray", "zarr", "numcodecs", "numpy", "captum")
EXTRAS = {"dashboard": ("streamlit",), "dev": ("pytest", "hypothesis", "playwright")}
GIB = 2**30
ENOUGH_MEMORY, ENOUGH_DISK = 2 * GIB, 1 * GIB


@dataclass(frozen=True)
class Checkup:
    """The findings. `str()` of it can be pasted into an issue."""

    versions: dict[str, str]
    device: str
    attention: str  # whether the fused kernel of this device gives its sums, by type
    memory: tuple[int, int]  # bytes free, bytes in all
    disk: int  # bytes free here
    extras: dict[str, bool]
    families: tuple[str, ...]
    trial: "Trial | None"
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
            f"attention   {self.attention}",
            f"memory      {free / GIB:.1f} of {total / GIB:.1f} GiB free",
            f"disk        {self.disk / GIB:.1f} GiB free here",
            f"extras      {', '.join(extras)}",
            f"families    {', '.join(self.families)}",
            f"            {support.HONESTY}",
            *([str(self.trial)] if self.trial else []),
            "verdict     " + ("; ".join(self.problems) if self.problems else "all well"),
        ]
        return "\n".join(rows)


def doctor(model: Any = None, *, device: str | None = None, **call: Any) -> Checkup:
    """Look at the installation; with `model` (what `probe.load` takes), try it for two steps as well.

    `device`: where a model that is loaded here runs, as in `probe.load`. `call`: arguments of the pipeline's call,
    where it needs more than a prompt, or to make the trial smaller (`height=256`).
    A model that cannot be recorded is a finding: the verdict says why. Raises what `probe.load` raises for one that
    cannot be loaded, and BadInput for one that cannot be called so.
    """
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    from probe.checkup import kernel

    sums = kernel.errors()
    problems = [*unmet(_requirements()), *scarce(memory.available, disk.free), *kernel.wrong(sums)]
    trial, failures = _try(model, device, call) if model is not None else (None, ())
    return Checkup(
        versions=_versions(),
        device=_device(),
        attention=kernel.told(sums),
        memory=(memory.available, memory.total),
        disk=disk.free,
        extras={name: all(map(_version, packages)) for name, packages in EXTRAS.items()},
        families=tuple(row.family for row in support.families()),
        trial=trial,
        problems=(*problems, *failures),
    )


def _try(model: Any, device: str | None, call: dict[str, Any]) -> "tuple[Trial | None, tuple[str, ...]]":
    """The trial of a model, and what does not hold."""
    from probe.checkup.trial import attempt
    from probe.generator.weights import load

    pipe = load(model, device=device)
    if pipe is not model:
        pipe.set_progress_bar_config(disable=True)
    try:
        trial = attempt(pipe, call)
    except BadInput:
        raise
    except ProbeError as problem:
        return None, (f"{type(pipe).__name__} cannot be recorded: {type(problem).__name__}: {problem}",)
    return trial, trial.problems


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
