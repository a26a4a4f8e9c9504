"""Tiny random pipelines of every family, of the real diffusers classes: built, saved, loaded, run in about a second."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from tests.pipelines import adapters, dit, joint, kandinsky, several, unet, video
from tests.pipelines.parts import HEIGHT, PROMPT, STEPS, WIDTH, Maker
from tests.room import room

__all__ = ["CORE", "FAMILIES", "HEIGHT", "PROMPT", "STEPS", "WIDTH", "Maker", "folder", "load", "pipeline", "run"]

FAMILIES: dict[str, Maker] = {
    **unet.FAMILIES,
    **joint.FAMILIES,
    **dit.FAMILIES,
    **kandinsky.FAMILIES,
    **video.FAMILIES,
    **several.FAMILIES,
    **adapters.FAMILIES,
}
CORE = tuple(name for name, maker in FAMILIES.items() if maker.core)


@cache
def folder(family: str) -> Path:
    """Where the family's pipeline was saved, as safetensors; built by whichever process asks for it first."""
    target = room() / family
    if not target.exists():
        mine = Path(tempfile.mkdtemp(prefix=f".{family}-", dir=target.parent))
        with _patience():
            FAMILIES[family].make().save_pretrained(mine, safe_serialization=True)
        with suppress(OSError):  # another process was faster
            mine.rename(target)
    return target


def load(family: str, **options: Any) -> Any:
    """A fresh pipeline (its class has no common call), from the folder, with its adapters on."""
    with _patience():
        pipe = DiffusionPipeline.from_pretrained(folder(family), local_files_only=True, **options)
    pipe.set_progress_bar_config(disable=True)
    after = FAMILIES[family].after
    if after is not None:
        after(pipe)
    return pipe


@contextmanager
def _patience() -> Iterator[None]:
    """Bears with diffusers where it uses what it has itself deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`(FluxPosEmbed|callback_steps)` is deprecated", FutureWarning)
        yield


@cache
def pipeline(family: str) -> Any:
    """The pipeline that the tests share: leave it as you found it."""
    return load(family)


def run(pipe: Any, family: str, *, seed: int = 0, **overrides: Any) -> np.ndarray:
    """Two steps of the prompt. Returns pictures (image, y, x, rgb) or films (image, frame, y, x, rgb), in 0 .. 1;
    or latents, if `output_type` says so.
    """
    maker = FAMILIES[family]
    generator = torch.Generator("cpu").manual_seed(seed)
    with _patience():
        output = pipe(**maker.call | maker.inputs() | overrides, generator=generator)
    return np.asarray(output[0].float() if isinstance(output[0], torch.Tensor) else output[0])
