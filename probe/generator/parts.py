"""Menagerie's parts, by their diffusers and transformers classes, in the layout of Stable Diffusion."""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH, TEXT_LENGTH, PROJECTION = 256, 77, 128
PICTURE_SIDE, LATENT_SIDE, LATENT_CHANNELS = 128, 32, 4


def autoencoder(scaling_factor: float = 1.0) -> AutoencoderKL:
    """f = 4: 128 x 128 pictures, 32 x 32 x 4 latents. No attention, so it learns on crops."""
    return AutoencoderKL(
        sample_size=PICTURE_SIDE,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
        scaling_factor=scaling_factor,
    )


def clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Text encoder 4 x 256 and picture encoder 5 x 192, projected to 128."""
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_LENGTH,
        "projection_dim": PROJECTION,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "image_size": PICTURE_SIDE,
        "patch_size": 16,
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "projection_dim": PROJECTION,
    }
    return CLIPModel(CLIPConfig(text_config=text | special, vision_config=vision, projection_dim=PROJECTION))


def text_encoder(model: CLIPModel) -> CLIPTextModel:
    """The text tower alone, as Stable Diffusion keeps it."""
    encoder = CLIPTextModel(model.config.text_config)
    tower = model.text_model.state_dict()
    target = encoder.state_dict()
    encoder.load_state_dict({name: tower[name.removeprefix("text_model.")] for name in target})
    return encoder.eval().requires_grad_(False)


def denoiser() -> UNet2DConditionModel:
    """Convolutions only at 32 x 32; cross-attention at 16 x 16, at 8 x 8 and in the middle."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's scaled-linear schedule; the denoiser predicts v."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
