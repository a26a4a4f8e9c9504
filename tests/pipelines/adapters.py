"""Tiny pipelines with what people put on theirs: LoRA, IP-Adapter, perturbed attention guidance, fused projections."""

from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusion3PAGPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPAGPipeline,
    StableDiffusionXLPipeline,
)

from tests.pipelines import joint, parts, unet
from tests.pipelines.parts import Maker, options

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj")
RANK, PICTURE_TOKENS = 2, 4


def denoiser(pipe: DiffusionPipeline) -> tuple[str, Any]:
    """The denoiser's name in the pipeline, and the denoiser."""
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    return name, getattr(pipe, name)


def load_lora(pipe: Any) -> None:
    """Low-rank changes of every projection of the denoiser's attention, through the pipeline's own loader."""
    name, model = denoiser(pipe)
    draw = torch.Generator().manual_seed(6)
    state: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and path.endswith(PROJECTIONS):
            state[f"{name}.{path}.lora_A.weight"] = torch.randn(RANK, module.in_features, generator=draw) * 0.3
            state[f"{name}.{path}.lora_B.weight"] = torch.randn(module.out_features, RANK, generator=draw) * 0.3
    pipe.load_lora_weights(state, adapter_name="tiny")


def ip_adapter_state(model: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of an IP-Adapter: keys and values of a picture for every attention to the text, numbered as released."""
    draw = torch.Generator().manual_seed(7)
    width = model.config.cross_attention_dim
    layers: dict[str, torch.Tensor] = {}
    for number, path in enumerate(model.attn_processors):
        if "attn2" in path:
            inner = model.get_submodule(path.removesuffix(".processor")).to_k.out_features
            for part in ("k", "v"):
                layers[f"{number}.to_{part}_ip.weight"] = torch.randn(inner, width, generator=draw) * 0.2
    seen = 32  # the width of the image encoder
    projection = {
        "proj.weight": torch.randn(PICTURE_TOKENS * width, seen, generator=draw) * 0.2,
        "proj.bias": torch.zeros(PICTURE_TOKENS * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {"image_proj": projection, "ip_adapter": layers}


def load_ip_adapter(pipe: Any) -> None:
    """A picture's four tokens in an attention of their own beside every attention to the text."""
    state = ip_adapter_state(denoiser(pipe)[1])
    pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(0.7)


def fuse(pipe: DiffusionPipeline) -> None:
    """Queries, keys and values from one matrix."""
    denoiser(pipe)[1].fuse_qkv_projections()


def with_eyes(made: dict[str, Any]) -> dict[str, Any]:
    """The components, with an image encoder."""
    return made | {"image_encoder": parts.eyes(), "feature_extractor": parts.eye_processor()}


def sd1_ip_adapter() -> StableDiffusionPipeline:
    """Stable Diffusion 1 that can see a picture."""
    return parts.assembled(StableDiffusionPipeline, **with_eyes(unet.sd_parts()))


def sdxl_ip_adapter() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL that can see a picture."""
    return parts.assembled(StableDiffusionXLPipeline, **with_eyes(unet.sdxl_parts()), add_watermarker=False)


def sd1_pag() -> StableDiffusionPAGPipeline:
    """A third branch whose self-attention in the middle block is the identity."""
    return parts.assembled(StableDiffusionPAGPipeline, **unet.sd_parts(), pag_applied_layers=["mid"])


def sdxl_pag() -> StableDiffusionXLPAGPipeline:
    """A third branch, as in `sd1_pag`."""
    return parts.assembled(
        StableDiffusionXLPAGPipeline, **unet.sdxl_parts(), pag_applied_layers=["mid"], add_watermarker=False
    )


def sd3_pag() -> StableDiffusion3PAGPipeline:
    """A third branch whose picture tokens see only themselves in the second block."""
    made = joint.sd3().components
    kept = {name: part for name, part in made.items() if name not in ("image_encoder", "feature_extractor")}
    return parts.assembled(StableDiffusion3PAGPipeline, **kept, pag_applied_layers=["blocks.1"])


def seen() -> dict[str, Any]:
    """A picture to look at."""
    return {"ip_adapter_image": parts.picture()}


PAG = options(pag_scale=3.0)
SD3 = options(max_sequence_length=32)
FAMILIES = {
    "sd1_lora": Maker(unet.sd1, options(), after=load_lora),
    "sdxl_lora": Maker(unet.sdxl, options(), after=load_lora),
    "sd3_lora": Maker(joint.sd3, SD3, after=load_lora),
    "flux1_lora": Maker(joint.flux1, options(3.5, max_sequence_length=32), after=load_lora),
    "sd1_ip_adapter": Maker(sd1_ip_adapter, options(), seen, load_ip_adapter),
    "sdxl_ip_adapter": Maker(sdxl_ip_adapter, options(), seen, load_ip_adapter),
    "sd1_pag": Maker(sd1_pag, PAG),
    "sdxl_pag": Maker(sdxl_pag, PAG),
    "sd3_pag": Maker(sd3_pag, PAG | {"max_sequence_length": 32}),
    "sd1_fused": Maker(unet.sd1, options(), after=fuse),
    "sd3_fused": Maker(joint.sd3, SD3, after=fuse),
    "flux1_fused": Maker(joint.flux1, options(3.5, max_sequence_length=32), after=fuse),
}
