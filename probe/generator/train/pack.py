"""Pack trained parts into the package: half precision, the layout of Stable Diffusion, and a manifest of hashes."""

import json
import shutil
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel

from probe.generator import parts
from probe.generator.tokenizer import build
from probe.generator.train.loop import finished
from probe.generator.train.stages import Plan, trained_autoencoder, trained_clip
from probe.generator.weights import MENAGERIE, digest


def pack(plan: Plan, target: Path = MENAGERIE) -> None:
    """Write what is trained; a stage without a checkpoint keeps what the target has."""
    fresh = target.with_name(f".{target.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    if target.exists():
        shutil.copytree(target, fresh)
    _pipeline(plan).save_pretrained(fresh, safe_serialization=True)
    save_half(_picture_side(trained_clip(plan)), fresh / "clip" / "model.safetensors")
    for stage, name in (
        ("judge", "judge/model.safetensors"),
        ("control", "control/diffusion_pytorch_model.safetensors"),
    ):
        if (plan.folder / stage / "average.safetensors").exists():
            save_half(load_file(plan.folder / stage / "average.safetensors"), fresh / name)
    hashes = {str(path.relative_to(fresh)): digest(path) for path in sorted(fresh.rglob("*.*")) if path.is_file()}
    hashes.pop("manifest.json", None)
    (fresh / "manifest.json").write_text(json.dumps(hashes, indent=1))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _pipeline(plan: Plan) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline(
        vae=trained_autoencoder(plan),
        text_encoder=parts.text_encoder(trained_clip(plan)),
        tokenizer=build(),
        unet=finished(parts.denoiser(), plan.folder / "denoiser"),
        scheduler=parts.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipe.vae, pipe.text_encoder, pipe.unet):
        part.half()
    return pipe


def _picture_side(model: CLIPModel) -> dict[str, Tensor]:
    """All but the text tower, which the pipeline's folder has already."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("text_model.")}


def save_half(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: _half(value) for name, value in state.items()}, path)


def _half(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous().clone()
    return value.half() if value.is_floating_point() else value
