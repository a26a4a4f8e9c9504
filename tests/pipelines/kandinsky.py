"""A tiny Kandinsky 2.2: a prior turns the prompt into the embedding of a picture, a UNet sees that embedding only."""

from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22CombinedPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)

from tests.pipelines import parts
from tests.pipelines.parts import Maker, options
from tests.tokenizers import clip_tokenizer

WIDTH = 32
BESIDE: dict[str, Any] = {  # a UNet with the old kind of attention: other keys, then the picture's, in one row
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
    "cross_attention_dim": WIDTH,
    "encoder_hid_dim": WIDTH,
    "resnet_time_scale_shift": "scale_shift",
}


def prior() -> PriorTransformer:
    """A transformer over the prompt's tokens, its embedding, the time and the picture's embedding."""
    made = parts.denoiser(
        PriorTransformer, num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=WIDTH
    )
    made.clip_std = torch.nn.Parameter(torch.ones_like(made.clip_std))
    return made


def decoder() -> UNet2DConditionModel:
    """Its attention is the old kind: the keys of the embedding, then those of the picture, in one row."""
    return parts.seeded(
        UNet2DConditionModel,
        in_channels=4,
        out_channels=8,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        **BESIDE,
    )


def movq() -> VQModel:
    """Kandinsky's autoencoder; a latent cell is 4 x 4 pixels."""
    shape: dict[str, Any] = {
        "block_out_channels": (32, 32, 32),
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
    }
    codes = {"num_vq_embeddings": 12, "vq_embed_dim": 4, "norm_type": "spatial", "norm_num_groups": 8}
    return parts.seeded(VQModel, 1, latent_channels=4, layers_per_block=1, **codes, **shape)


def kandinsky22() -> KandinskyV22CombinedPipeline:
    """Prior and decoder in one pipeline."""
    tokenizer = clip_tokenizer()
    noise = DDPMScheduler(
        variance_type="learned_range", beta_schedule="linear", clip_sample=True, clip_sample_range=2.0
    )
    return parts.assembled(
        KandinskyV22CombinedPipeline,
        unet=decoder(),
        scheduler=noise,
        movq=movq(),
        prior_prior=prior(),
        prior_image_encoder=parts.eyes(WIDTH),
        prior_text_encoder=parts.clip_projected(tokenizer, WIDTH),
        prior_tokenizer=tokenizer,
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", num_train_timesteps=1000, clip_sample_range=5.0),
        prior_image_processor=parts.eye_processor(),
    )


FAMILIES = {"kandinsky22": Maker(kandinsky22, options(prior_num_inference_steps=parts.STEPS))}
