"""One training loop for every part of Menagerie: resumable, with an average of the weights and a decaying end.

A checkpoint is a folder of safetensors and one JSON file, written beside the old one and then renamed.
"""

import copy
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from probe.errors import DamagedFile
from probe.generator.train.optimiser import MatrixOptimiser
from probe.generator.train.precision import autocast

Module = TypeVar("Module", bound=nn.Module)
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a part is trained. Samples, not epochs: the world never repeats itself."""

    samples: int
    batch: int
    lr: float
    warmup: int = 100  # steps
    decay: float = 0.25  # the last share of the samples, over which the rate falls to zero
    ema: float = 0.999
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0


@dataclass
class Progress:
    """What a checkpoint knows besides tensors."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    loss: float = math.nan


def rate(recipe: Recipe, progress: Progress) -> float:
    """Learning rate: linear warm-up, a plateau, then a cosine to zero over the last share of the samples."""
    up = min(1.0, (progress.step + 1) / recipe.warmup)
    left = 1 - min(progress.samples / recipe.samples, 1.0)
    down = 1.0 if left >= recipe.decay else 0.5 - 0.5 * math.cos(math.pi * left / recipe.decay)
    return recipe.lr * up * down


class Trainer:
    """A module, its optimiser and the running average of its weights."""

    def __init__(self, module: nn.Module, recipe: Recipe, folder: Path, device: str = "cpu"):
        self.recipe, self.folder, self.device = recipe, folder, device
        self.module = module.to(device)
        self.average = copy.deepcopy(module).eval().requires_grad_(False)
        if torch.device(device).type == "cuda":
            self.module.compile()
        self.progress = Progress()
        self.optimiser = MatrixOptimiser(self.module, recipe.weight_decay, recipe.betas)

    def fit(self, loss: Callable[[nn.Module, int], Losses], every: float = 120.0) -> nn.Module:
        """Train until the recipe's samples are used up; save every `every` seconds. Returns the average."""
        console, saved, began = Console(stderr=True), time.monotonic(), time.monotonic()
        before = self.progress.seconds
        self.module.train()
        while self.progress.samples < self.recipe.samples:
            losses = self._step(loss)
            self.progress.seconds = before + time.monotonic() - began
            if self.progress.step % 25 == 0:
                console.print(self._line(losses), highlight=False)
            if time.monotonic() - saved > every:
                self.save()
                saved = time.monotonic()
        self.save()
        return self.average

    def _step(self, loss: Callable[[nn.Module, int], Losses]) -> Losses:
        torch.manual_seed(self.progress.samples)  # so that a run that was resumed draws what it would have drawn
        with autocast(self.device):
            losses = loss(self.module, self.progress.samples)
            total = torch.stack(list(losses.values())).sum()
        total.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self.optimiser.step(rate(self.recipe, self.progress))
        self.progress.step += 1
        self.progress.samples += self.recipe.batch
        self.progress.loss = smooth(self.progress.loss, float(total.detach()))
        self._average()
        return losses

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.progress.step) / (10 + self.progress.step))
        ours, theirs = list(self.average.state_dict().values()), list(self.module.state_dict().values())
        floats = [i for i, value in enumerate(ours) if value.is_floating_point()]
        torch._foreach_lerp_([ours[i] for i in floats], [theirs[i] for i in floats], 1 - decay)

    def _line(self, losses: Losses) -> str:
        p = self.progress
        parts = " ".join(f"{name} {float(value.detach()):.4f}" for name, value in losses.items())
        share = p.samples / self.recipe.samples
        return f"{self.folder.name} {share:6.1%} {p.samples} samples {p.seconds:.0f} s loss {p.loss:.4f} ({parts})"

    def save(self) -> None:
        """Write a checkpoint; the previous one stays until this one is whole."""
        fresh = self.folder.with_name(f".{self.folder.name}.fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(_whole(self.module.state_dict()), fresh / "model.safetensors")
        save_file(_whole(self.average.state_dict()), fresh / "average.safetensors")
        save_file(self.optimiser.state(), fresh / "optimiser.safetensors")
        (fresh / "progress.json").write_text(json.dumps(asdict(self.progress) | {"recipe": asdict(self.recipe)}))
        if self.folder.exists():
            shutil.rmtree(self._stale, ignore_errors=True)
            os.replace(self.folder, self._stale)
        os.replace(fresh, self.folder)
        shutil.rmtree(self._stale, ignore_errors=True)

    @property
    def _stale(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.stale")

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Begin with given weights instead of random ones; the optimiser and the clock start anew."""
        for module in (self.module, self.average):
            module.load_state_dict(state)

    def resume(self) -> bool:
        """Continue from the checkpoint in the folder, if there is one."""
        if not self.folder.exists() and self._stale.exists():
            os.replace(self._stale, self.folder)  # a save broke off between its two renames
        if not (self.folder / "progress.json").exists():
            return False
        self.module.load_state_dict(load_file(self.folder / "model.safetensors", device=self.device))
        self.average.load_state_dict(load_file(self.folder / "average.safetensors", device=self.device))
        self.optimiser.load(load_file(self.folder / "optimiser.safetensors", device=self.device))
        kept = json.loads((self.folder / "progress.json").read_text())
        self.progress = Progress(**{name: kept[name] for name in asdict(Progress())})
        return True


def finished(module: Module, folder: Path, device: str = "cpu") -> Module:
    """The averaged weights of a trained part, in evaluation mode and frozen."""
    path = folder / "average.safetensors"
    if not path.exists():
        raise DamagedFile(f"{folder} holds no trained part (no average.safetensors); train this stage first")
    return filled(module, path, device)


def filled(module: Module, path: Path, device: str = "cpu") -> Module:
    """The weights of a file, in evaluation mode and frozen."""
    module.load_state_dict(load_file(path, device=device))
    return module.to(device).eval().requires_grad_(False)


def smooth(old: float, new: float, weight: float = 0.02) -> float:
    return new if math.isnan(old) else old + weight * (new - old)


def _whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in state.items()}
