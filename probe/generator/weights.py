"""Loading: Menagerie's own weights, a folder, a hub id, or a pipeline that already lives.

Only safetensors are read, and no code that comes with a model is ever run.
"""

import hashlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTextModel

from probe.errors import BadInput, DamagedFile, NotAPipeline, UnsafeWeights
from probe.generator import parts
from probe.generator.difference import applied
from probe.generator.judge import Judge
from probe.generator.judge import load as load_judge
from probe.generator.names import NAMES
from probe.generator.tokenizer import build
from probe.store.manifest import digest as hashed

MENAGERIE = Path(__file__).parent / "menagerie"
VAE = "vae/diffusion_pytorch_model.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"
CONTROL = "control/difference.safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
PICKLED = (
    "pickled ones can run code when they are opened: convert them where you trust them, with "
    "pipe.save_pretrained(folder, safe_serialization=True)"
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load(source: Any = None, *, revision: str | None = None, device: str | None = None) -> Any:
    """A diffusers pipeline, ready to run and to record.

    `source`: None or "menagerie" (the embedded generator), "menagerie-control" (see docs/menagerie.md), a
    folder, a hub id ("owner/name", pin it with `revision`), or a live pipeline, which is returned unchanged.
    `device`: where the pipeline is moved ("cuda"); None leaves it where it was loaded, on the CPU.
    Raises NotAPipeline, UnsafeWeights, DamagedFile, BadInput.
    """
    if isinstance(source, DiffusionPipeline):
        return source
    if source is None or source in NAMES:
        pipe = _menagerie(control=source == NAMES[1])
    elif isinstance(source, str | os.PathLike):
        pipe = _from_source(os.fspath(source), revision)
    else:
        raise NotAPipeline(
            f"{type(source).__name__} is not a diffusers pipeline; "
            "give a pipeline, a folder, a hub id, or nothing for Menagerie"
        )
    return pipe if device is None else _moved(pipe, device)


def _moved(pipe: Any, device: str) -> Any:
    """The pipeline on a device. Raises BadInput for one that this machine has not, or whose memory is too small."""
    try:
        return pipe.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        first = str(error).splitlines()[0]
        raise BadInput(f"the model cannot be moved to device {device!r} ({first}); give cpu, cuda or cuda:0") from error


def clip() -> CLIPModel:
    """Menagerie's text and picture encoders (128-dimensional projection), float32.

    Its text tower is not the one that the denoiser reads (`text_tower`): the two were trained apart.
    """
    model = parts.clip(build())
    model.load_state_dict(_checked("clip/model.safetensors"))
    return model.eval().requires_grad_(False)


def text_tower() -> CLIPTextModel:
    """The text tower that the denoiser reads, float32."""
    tower = CLIPTextModel(parts.clip(build()).config.text_config)
    tower.load_state_dict(_checked("text_encoder/model.safetensors"))
    return tower.eval().requires_grad_(False)


def judge() -> Judge:
    """Menagerie's judge, which names what a picture shows, pixel by pixel."""
    return load_judge(_verified("judge/model.safetensors"))


def control_weights() -> dict[str, torch.Tensor]:
    """The denoiser that was trained on without noise in its captions, float32. Raises DamagedFile."""
    return applied(load_file(_verified(CONTROL)), load_file(_verified(UNET)))


def revision(*, control: bool = False) -> str:
    """What tells these weights of Menagerie from others: 32 hexadecimal digits of their manifest.

    The denoiser's own do not change when its control does.
    """
    told = {name: found for name, found in _manifest().items() if control or name != CONTROL}
    return hashed(manifest(told))[:32]


def manifest(hashes: dict[str, str]) -> bytes:
    """The file that lists the weights."""
    return json.dumps(hashes, indent=1).encode()


def _menagerie(control: bool) -> StableDiffusionPipeline:
    for name in _manifest():
        _verified(name)
    pipe = _quietly(StableDiffusionPipeline, str(MENAGERIE))
    if control:
        pipe.unet.load_state_dict(control_weights())
    pipe.config["_name_or_path"] = NAMES[int(control)]
    pipe.config["_revision"] = revision(control=control)
    return pipe


def _from_source(source: str, revision: str | None) -> Any:
    folder = Path(source)
    if folder.is_dir():
        _check_folder(folder)
    elif not HUB_ID.fullmatch(source):
        raise NotAPipeline(
            f"there is no folder {source!r}, and it is not a hub id (owner/name) either; "
            "give the folder that holds model_index.json, or leave it out for Menagerie"
        )
    try:
        return _quietly(DiffusionPipeline, source, revision=revision)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        if "safetensors" in str(problem):
            raise UnsafeWeights(f"{source!r} lacks safetensors of a part ({problem}); {PICKLED}") from problem
        raise NotAPipeline(
            f"{source!r} could not be loaded as a diffusers pipeline: {problem}. "
            "Check the name, or download it first where there is a network"
        ) from problem


def _quietly(kind: Any, source: str, **options: Any) -> Any:
    """Load in float32 with safetensors only; the progress bar of loading is left to whoever wants one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        pipe = kind.from_pretrained(source, torch_dtype=torch.float32, use_safetensors=True, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _check_folder(folder: Path) -> None:
    if not (folder / "model_index.json").is_file():
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        raise NotAPipeline(
            f"{folder} holds no model_index.json (it holds {held}); give the folder that was saved by save_pretrained"
        )
    code = sorted(p.name for p in folder.rglob("*.py"))
    if code:
        raise UnsafeWeights(
            f"{folder} brings code of its own ({', '.join(code[:3])}); probe runs none. "
            "Load it yourself and give the pipeline"
        )
    for part in (p for p in folder.iterdir() if p.is_dir()):
        names = {p.suffix for p in part.iterdir()}
        if names & set(PICKLES) and ".safetensors" not in names:
            raise UnsafeWeights(f"{part} holds pickled weights only; {PICKLED}")


def _manifest() -> dict[str, str]:
    path = MENAGERIE / "manifest.json"
    if not path.is_file():
        raise DamagedFile("Menagerie's weights are missing from this installation; install diffusion-probe again")
    return json.loads(path.read_text())


def _verified(name: str) -> Path:
    path = MENAGERIE / name
    found = digest(path) if path.is_file() else "missing"
    if found != _manifest().get(name):
        raise DamagedFile(f"Menagerie's {name} is damaged (BLAKE2b {found[:16]}); install diffusion-probe again")
    return path


def _checked(name: str) -> dict[str, torch.Tensor]:
    return {
        key: value.float() if value.is_floating_point() else value for key, value in load_file(_verified(name)).items()
    }


def digest(path: Path) -> str:
    """BLAKE2b of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
