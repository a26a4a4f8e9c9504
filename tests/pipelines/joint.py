"""Tiny pipelines whose denoiser lets text and picture attend to one another in one sequence."""

from typing import Any

from diffusers import FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel, StableDiffusion3Pipeline

from tests.pipelines import parts
from tests.pipelines.parts import Maker, options
from tests.tokenizers import clip_tokenizer, t5_tokenizer

MMDIT = {
    "sample_size": 24,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_attention_heads": 4,
    "attention_head_dim": 8,
    "caption_projection_dim": 32,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 64,
    "pos_embed_max_size": 24,
}


def sd3(**config: Any) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3: two CLIP encoders side by side in the channels, then T5 behind them in the sequence."""
    tokenizers = {"tokenizer": clip_tokenizer(), "tokenizer_2": clip_tokenizer(), "tokenizer_3": t5_tokenizer()}
    return StableDiffusion3Pipeline(
        transformer=parts.seeded(lambda: SD3Transformer2DModel(**MMDIT | config)),
        scheduler=parts.flow(),
        vae=parts.flow_vae(),
        text_encoder=parts.clip_projected(tokenizers["tokenizer"]),
        text_encoder_2=parts.clip_projected(tokenizers["tokenizer_2"]),
        text_encoder_3=parts.t5(tokenizers["tokenizer_3"], 64),
        **tokenizers,
    )


def sd35() -> StableDiffusion3Pipeline:
    """Stable Diffusion 3.5 medium: normalised queries and keys; a second, picture-only attention in layer 0."""
    return sd3(dual_attention_layers=(0,), qk_norm="rms_norm")


def flux1() -> FluxPipeline:
    """FLUX.1 dev: two double and three single blocks, the guidance scale embedded."""
    tokenizer, tokenizer_2 = clip_tokenizer(), t5_tokenizer()
    denoiser = parts.seeded(
        lambda: FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=3,
            num_attention_heads=4,
            attention_head_dim=8,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=True,
            axes_dims_rope=(2, 2, 4),
        )
    )
    return FluxPipeline(
        transformer=denoiser,
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flow_vae(),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=parts.t5(tokenizer_2),
        tokenizer_2=tokenizer_2,
    )


FAMILIES = {
    "sd3": Maker(sd3, options(max_sequence_length=32), core=True),
    "sd35": Maker(sd35, options(max_sequence_length=32)),
    "flux1": Maker(flux1, options(3.5, max_sequence_length=32), core=True),
}
