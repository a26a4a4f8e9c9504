"""Tiny pipelines whose denoiser lets text and picture attend to one another in one sequence."""

from typing import Any

from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from tests.pipelines import llm, parts
from tests.pipelines.parts import Maker, options, seeded
from tests.tokenizers import clip_tokenizer, llama_tokenizer, qwen_tokenizer, t5_tokenizer

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
    return parts.assembled(
        StableDiffusion3Pipeline,
        transformer=parts.denoiser(SD3Transformer2DModel, **MMDIT | config),
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
    denoiser = parts.denoiser(
        FluxTransformer2DModel,
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
    return parts.assembled(
        FluxPipeline,
        transformer=denoiser,
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flow_vae(),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=parts.t5(tokenizer_2),
        tokenizer_2=tokenizer_2,
    )


def flux2_parts() -> dict[str, Any]:
    """The components of both FLUX.2 families, without the encoder."""
    denoiser = parts.denoiser(
        Flux2Transformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        num_attention_heads=4,
        attention_head_dim=8,
        joint_attention_dim=3 * llm.WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
    )
    levels = 3
    coder = seeded(
        AutoencoderKLFlux2,
        1,
        block_out_channels=(4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
    )
    return {"transformer": denoiser, "vae": coder, "scheduler": parts.flow(use_dynamic_shifting=True)}


def flux2() -> Flux2Pipeline:
    """FLUX.2 dev: three layers of a Mistral side by side in the channels, the guidance scale embedded."""
    tokenizer = qwen_tokenizer()
    return parts.assembled(Flux2Pipeline, **flux2_parts(), tokenizer=tokenizer, text_encoder=llm.mistral3(tokenizer))


def flux2_klein() -> Flux2KleinPipeline:
    """FLUX.2 klein, not distilled: three layers of a Qwen 3, guidance in a second call."""
    tokenizer = qwen_tokenizer()
    return parts.assembled(Flux2KleinPipeline, **flux2_parts(), tokenizer=tokenizer, text_encoder=llm.qwen3(tokenizer))


def qwen_image() -> QwenImagePipeline:
    """Qwen-Image: the prompt inside a chat template whose head is cut off, guidance in a second call."""
    tokenizer = qwen_tokenizer()
    denoiser = parts.denoiser(
        QwenImageTransformer2DModel,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        joint_attention_dim=llm.WIDTH,
        axes_dims_rope=(2, 2, 4),
    )
    coder = seeded(
        AutoencoderKLQwenImage,
        1,
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return parts.assembled(
        QwenImagePipeline,
        transformer=denoiser,
        vae=coder,
        scheduler=parts.flow(use_dynamic_shifting=True),
        tokenizer=tokenizer,
        text_encoder=llm.qwen_vl(tokenizer),
    )


def z_image() -> ZImagePipeline:
    """Z-Image: single-stream blocks over picture then text, each filled up to a multiple of 32."""
    tokenizer = qwen_tokenizer()
    denoiser = parts.denoiser(
        ZImageTransformer2DModel,
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=llm.WIDTH,
        axes_dims=[4, 2, 2],
        axes_lens=[256, 32, 32],
    )
    return parts.assembled(
        ZImagePipeline,
        transformer=denoiser,
        vae=parts.flow_vae(),
        scheduler=parts.flow(),
        tokenizer=tokenizer,
        text_encoder=llm.qwen3_base(tokenizer),
    )


def cogview4() -> CogView4Pipeline:
    """CogView 4: text padded on the left to a multiple of 16, guidance in a second call."""
    tokenizer = llm.starting(llama_tokenizer())
    denoiser = parts.denoiser(
        CogView4Transformer2DModel,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        text_embed_dim=llm.WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=24,
        sample_size=24,
        rope_axes_dim=(24, 24),
    )
    return parts.assembled(
        CogView4Pipeline,
        transformer=denoiser,
        vae=parts.flow_vae(),
        scheduler=parts.flow(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, base_image_seq_len=256),
        tokenizer=tokenizer,
        text_encoder=llm.glm(tokenizer),
    )


def aura_flow() -> AuraFlowPipeline:
    """AuraFlow: eight register tokens before the text, two joint and two single blocks."""
    tokenizer = llm.starting(llama_tokenizer())
    tokenizer.padding_side = "right"
    denoiser = parts.denoiser(
        AuraFlowTransformer2DModel,
        sample_size=24,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=24 * 24,
    )
    return parts.assembled(
        AuraFlowPipeline,
        transformer=denoiser,
        vae=parts.vae(),
        scheduler=parts.flow(),
        tokenizer=tokenizer,
        text_encoder=parts.umt5(tokenizer),
    )


def chroma() -> ChromaPipeline:
    """Chroma: FLUX.1's blocks with T5 alone, padding masked but for its first token, guidance in a second call."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        ChromaTransformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        num_attention_heads=4,
        attention_head_dim=8,
        joint_attention_dim=32,
        axes_dims_rope=(2, 2, 4),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    return parts.assembled(
        ChromaPipeline,
        transformer=denoiser,
        vae=parts.flow_vae(),
        scheduler=parts.flow(use_dynamic_shifting=True),
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer),
    )


LAYERS: dict[str, Any] = {"text_encoder_out_layers": (1, 2, 3)}
FAMILIES = {
    "sd3": Maker(sd3, options(max_sequence_length=32), core=True),
    "sd35": Maker(sd35, options(max_sequence_length=32)),
    "flux1": Maker(flux1, options(3.5, max_sequence_length=32), core=True),
    "flux2": Maker(flux2, options(max_sequence_length=256, **LAYERS)),
    "flux2_klein": Maker(flux2_klein, options(max_sequence_length=48, **LAYERS)),
    "qwen_image": Maker(qwen_image, options(None, true_cfg_scale=4.0, negative_prompt="a dog")),
    "z_image": Maker(z_image, options(max_sequence_length=64)),
    "cogview4": Maker(cogview4, options()),
    "aura_flow": Maker(aura_flow, options(max_sequence_length=32)),
    "chroma": Maker(chroma, options(max_sequence_length=32)),
}
