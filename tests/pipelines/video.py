"""Tiny pipelines of films: CogVideoX, Wan, LTX, HunyuanVideo, AnimateDiff; two or three latent frames."""

from typing import Any

from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    UNetMotionModel,
    WanPipeline,
    WanTransformer3DModel,
)

from tests.pipelines import llm, parts, unet
from tests.pipelines.parts import Maker, options, seeded
from tests.tokenizers import clip_tokenizer, llama_tokenizer, t5_tokenizer


def cogvideox() -> CogVideoXPipeline:
    """CogVideoX: text before the film in one sequence."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        CogVideoXTransformer3DModel,
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=32,
        num_layers=2,
        sample_width=24,
        sample_height=16,
        sample_frames=5,
        max_text_seq_length=32,
        use_rotary_positional_embeddings=True,
    )
    levels = 3
    coder = seeded(
        AutoencoderKLCogVideoX,
        1,
        block_out_channels=(8,) * levels,
        down_block_types=("CogVideoXDownBlock3D",) * levels,
        up_block_types=("CogVideoXUpBlock3D",) * levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_height=parts.HEIGHT,
        sample_width=parts.WIDTH,
    )
    return parts.assembled(
        CogVideoXPipeline,
        transformer=denoiser,
        vae=coder,
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer),
    )


def wan_denoiser() -> WanTransformer3DModel:
    """Attention inside the film, then attention to the text."""
    return WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        rope_max_seq_len=32,
    )


def wan(**further: Any) -> WanPipeline:
    """Wan 2.1: guidance in a second call, padding of the text replaced by zeros."""
    tokenizer = t5_tokenizer()
    coder = seeded(
        AutoencoderKLWan,
        1,
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_spatial=4,
    )
    return parts.assembled(
        WanPipeline,
        transformer=parts.denoiser(wan_denoiser),
        vae=coder,
        scheduler=parts.flow(),
        tokenizer=tokenizer,
        text_encoder=parts.umt5(tokenizer),
        **further,
    )


def wan22() -> WanPipeline:
    """Wan 2.2: one denoiser for the early steps, another for the late ones."""
    return wan(transformer_2=parts.denoiser(wan_denoiser), boundary_ratio=0.5)


def ltx() -> LTXPipeline:
    """LTX: attention inside the film, then attention to the text; the autoencoder packs 4 x 4 pixels of its own."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        LTXVideoTransformer3DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=32,
    )
    coder = seeded(
        AutoencoderKLLTXVideo,
        1,
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False),
        decoder_spatio_temporal_scaling=(True, True, False),
        decoder_inject_noise=(False,) * 4,
        upsample_residual=(False,) * 3,
        upsample_factor=(1, 1, 1),
        down_block_types=("LTXVideoDownBlock3D",) * 3,
        downsample_type=("conv",) * 3,
        patch_size=2,
    )
    return parts.assembled(
        LTXPipeline,
        transformer=denoiser,
        vae=coder,
        scheduler=parts.flow(use_dynamic_shifting=True),
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer),
    )


def hunyuan_video() -> HunyuanVideoPipeline:
    """HunyuanVideo: a Llama's text behind the film in one sequence, refined first; the guidance scale embedded."""
    tokenizer, tokenizer_2 = llm.starting(llama_tokenizer(side="right")), clip_tokenizer()
    denoiser = parts.denoiser(
        HunyuanVideoTransformer3DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=llm.WIDTH,
        pooled_projection_dim=32,
        rope_axes_dim=(2, 2, 4),
    )
    levels = 4
    coder = seeded(
        AutoencoderKLHunyuanVideo,
        1,
        latent_channels=4,
        block_out_channels=(8,) * levels,
        down_block_types=("HunyuanVideoDownBlock3D",) * levels,
        up_block_types=("HunyuanVideoUpBlock3D",) * levels,
        layers_per_block=1,
        norm_num_groups=4,
    )
    return parts.assembled(
        HunyuanVideoPipeline,
        transformer=denoiser,
        vae=coder,
        scheduler=parts.flow(),
        tokenizer=tokenizer,
        text_encoder=llm.llama(tokenizer),
        tokenizer_2=tokenizer_2,
        text_encoder_2=parts.clip(tokenizer_2),
    )


def animate_diff() -> AnimateDiffPipeline:
    """AnimateDiff: Stable Diffusion 1, one frame a batch row, with attention over time between its layers."""
    made: dict[str, Any] = unet.sd_parts()
    adapter = seeded(
        MotionAdapter,
        block_out_channels=(16, 32, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=8,
    )
    moving = UNetMotionModel.from_unet2d(made["unet"], adapter)
    kept = {name: made[name] for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    return parts.assembled(AnimateDiffPipeline, **kept, unet=moving, motion_adapter=adapter)


TEMPLATE = {"template": "Describe the video: {}", "crop_start": 4}
FAMILIES = {
    "cogvideox": Maker(cogvideox, options(num_frames=9, max_sequence_length=32)),
    "wan": Maker(wan, options(num_frames=5, max_sequence_length=32)),
    "wan22": Maker(wan22, options(num_frames=5, max_sequence_length=32, guidance_scale_2=3.0)),
    "ltx": Maker(ltx, options(num_frames=9, max_sequence_length=32)),
    "hunyuan_video": Maker(hunyuan_video, options(num_frames=5, prompt_template=TEMPLATE, max_sequence_length=32)),
    "animate_diff": Maker(animate_diff, options(num_frames=4)),
}
