"""A decomposition that was stopped: everything it needs to go on, as safetensors and JSON, replaced as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from probe.attach.model.prediction import Level
from probe.concepts.own import Own
from probe.errors import BadInput, DamagedFile, OutputError
from probe.store.folder import new_folder
from probe.store.plain import canonical, parse, plain, restore

NAME, TENSORS = "progress.json", "state.safetensors"


@dataclass
class Progress:
    """How far a decomposition is. `asked` says for what: prompt, solver, recipe and model; `words` its vocabulary."""

    asked: Mapping[str, Any]
    words: tuple[str, ...]
    own: Own
    done: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    best: tuple[float, Tensor] | None = None  # the likeness of the validation pictures, and the coefficients


def write(progress: Progress, folder: Path) -> None:
    """Put the progress in place of an earlier one."""
    tensors = {"own.latents": progress.own.latents, **{f"state.{name}": each for name, each in progress.state.items()}}
    if progress.best:
        tensors["best"] = progress.best[1]
    own = progress.own
    told = {
        "asked": progress.asked,
        "words": progress.words,
        "done": progress.done,
        "seconds": progress.seconds,
        "losses": progress.losses,
        "best": progress.best[0] if progress.best else None,
        "levels": [[each.kind, each.alpha, each.sigma, each.scale] for each in own.levels],
        "told": own.told,
        "sign": own.sign,
    }
    with new_folder(folder, replaces=_only_progress) as hidden:
        save_file({name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}, hidden / TENSORS)
        (hidden / NAME).write_bytes(canonical(plain(told)))


def read(folder: Path, asked: Mapping[str, Any], device: torch.device) -> Progress | None:
    """The progress in a folder; None if there is none. Raises BadInput if it is of another question, DamagedFile."""
    if not (folder / NAME).is_file():
        return None
    told = restore(parse((folder / NAME).read_bytes(), NAME))
    try:
        _check(folder, told["asked"], asked)
        tensors = load_file(folder / TENSORS)
        latents = tensors["own.latents"].to(device)
        own = Own(latents, tuple(Level(*each) for each in told["levels"]), tuple(told["told"]), told["sign"])
        state = {name[6:]: each for name, each in tensors.items() if name.startswith("state.")}
        best = (told["best"], tensors["best"]) if told["best"] is not None else None
        words, done, seconds, losses = tuple(told["words"]), told["done"], told["seconds"], told["losses"]
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        raise DamagedFile(f"{folder} holds no whole progress ({error!r}): remove it, and start anew") from error
    return Progress(asked, words, own, done, seconds, losses, state, best)


def _check(folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    wanted = restore(plain(asked))
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise BadInput(
            f"{folder} holds the progress of another decomposition: its {other[0]} is {found.get(other[0])!r}, "
            f"expected {wanted[other[0]]!r}. Give another folder, or the same settings to resume"
        )


def _only_progress(folder: Path) -> None:
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in (NAME, TENSORS))
    if strangers:
        raise OutputError(f"{folder} holds {strangers[0]!r}, which is not part of a checkpoint: choose another folder")
