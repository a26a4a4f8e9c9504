"""Pack trained parts into the package: half precision, the layout of Stable Diffusion, and a manifest of hashes."""

import json
import shutil
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from probe.generator import parts
from probe.generator.difference import applied, difference
from probe.generator.tokenizer import build
from probe.generator.train.stages import LATER, Plan, trained_autoencoder, trained_clip, trained_reader
from probe.generator.weights import CONTROL, MENAGERIE, UNET, digest, manifest


def pack(plan: Plan, target: Path = MENAGERIE) -> None:
    """Write what is trained; a stage without a checkpoint keeps what the target has."""
    fresh = target.with_name(f".{target.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    if target.exists():
        shutil.copytree(target, fresh)
    _pipeline(plan).save_pretrained(fresh, safe_serialization=True)
    _computed_in_float32(fresh / "text_encoder" / "config.json")
    save_half(trained_clip(plan).state_dict(), fresh / "clip" / "model.safetensors")
    if plan.has("judge"):
        save_half(load_file(plan.folder / "judge" / "average.safetensors"), fresh / "judge" / "model.safetensors")
    twin = _control(plan, target)
    if twin is not None:
        (fresh / CONTROL).parent.mkdir(exist_ok=True)
        save_file(difference(twin, load_file(fresh / UNET)), fresh / CONTROL)
    hashes = {str(path.relative_to(fresh)): digest(path) for path in sorted(fresh.rglob("*.*")) if path.is_file()}
    hashes.pop("manifest.json", None)
    (fresh / "manifest.json").write_bytes(manifest(hashes))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _control(plan: Plan, target: Path) -> dict[str, Tensor] | None:
    """The control denoiser's weights, to be packed anew where they or what they differ from were trained."""
    if plan.has("control"):
        return trained_reader(plan, "control").unet.state_dict()
    packed = target / CONTROL
    moved = any(map(plan.has, LATER)) and packed.exists()
    return applied(load_file(packed), load_file(target / UNET)) if moved else None


def _pipeline(plan: Plan) -> StableDiffusionPipeline:
    reader = trained_reader(plan, *LATER)
    pipe = StableDiffusionPipeline(
        vae=trained_autoencoder(plan),
        text_encoder=reader.text,
        tokenizer=build(),
        unet=reader.unet,
        scheduler=parts.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipe.vae, pipe.text_encoder, pipe.unet):
        part.half()
    return pipe


def _computed_in_float32(path: Path) -> None:
    """Half is how the tensors are kept; told so, transformers would load this part in half, and diffusers no other."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def save_half(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: _half(value) for name, value in state.items()}, path)


def _half(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous().clone()
    return value.half() if value.is_floating_point() else value
