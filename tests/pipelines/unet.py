"""Tiny pipelines whose denoiser is a UNet: Stable Diffusion 1, 2 and XL, from words and from pictures."""

import tempfile
from pathlib import Path
from typing import Any

from diffusers import (
    ControlNetModel,
    KolorsPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tests.pipelines import llm, parts
from tests.pipelines.parts import Maker, options
from tests.room import room
from tests.tokenizers import chatglm_tokenizer, clip_tokenizer

SD = {
    "sample_size": 16,
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,  # in diffusers this is the number of heads, for Stable Diffusion 1
    "cross_attention_dim": 32,
}
XL = SD | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (2, 4, 4),
    "transformer_layers_per_block": (1, 1, 2),
    "use_linear_projection": True,
    "cross_attention_dim": 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}


def unet(**config: Any) -> UNet2DConditionModel:
    """Stable Diffusion's denoiser with two levels of attention."""
    return parts.denoiser(UNet2DConditionModel, **SD | config)


def sd_parts(**config: Any) -> dict[str, Any]:
    """The components of Stable Diffusion 1 and 2."""
    tokenizer = clip_tokenizer()
    shared = {"tokenizer": tokenizer, "text_encoder": parts.clip(tokenizer), "vae": parts.vae()}
    rest = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return {"unet": unet(**config), "scheduler": parts.ddim()} | shared | rest


def sd1() -> StableDiffusionPipeline:
    """Stable Diffusion 1: epsilon, convolutional projections."""
    return parts.assembled(StableDiffusionPipeline, **sd_parts())


def sd2() -> StableDiffusionPipeline:
    """Stable Diffusion 2: predicts v, linear projections, heads by level, timesteps from where no signal is left."""
    made = sd_parts(use_linear_projection=True, attention_head_dim=(2, 4, 4), upcast_attention=True)
    made["scheduler"] = parts.ddim(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    return parts.assembled(StableDiffusionPipeline, **made)


def sdxl_parts(**config: Any) -> dict[str, Any]:
    """The components of Stable Diffusion XL."""
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer()
    tokenizer_2.pad_token = "!"  # as in the released weights: the second encoder does not pad with the end
    encoders = {"text_encoder": parts.clip(tokenizer), "text_encoder_2": parts.clip_projected(tokenizer_2)}
    tokenizers = {"tokenizer": tokenizer, "tokenizer_2": tokenizer_2}
    return {"unet": unet(**XL | config), "scheduler": parts.ddim(), "vae": parts.vae()} | encoders | tokenizers


def sdxl() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL: two encoders side by side in the channels, blocks of two transformer layers."""
    return parts.assembled(StableDiffusionXLPipeline, **sdxl_parts(), add_watermarker=False)


def kolors() -> KolorsPipeline:
    """Kolors: the UNet of Stable Diffusion XL behind a ChatGLM, whose states are [t, b, c], padded on the left."""
    tokenizer = chatglm_tokenizer(Path(tempfile.mkdtemp(dir=room())))
    shape = {"encoder_hid_dim": llm.WIDTH, "encoder_hid_dim_type": "text_proj"}
    return parts.assembled(
        KolorsPipeline,
        unet=unet(**XL | shape),
        scheduler=parts.ddim(),
        vae=parts.vae(),
        text_encoder=llm.chatglm(tokenizer),
        tokenizer=tokenizer,
    )


def sd1_img2img() -> StableDiffusionImg2ImgPipeline:
    """Starts from a picture with noise, in the middle of the timesteps."""
    return parts.assembled(StableDiffusionImg2ImgPipeline, **sd_parts())


def sd1_inpaint() -> StableDiffusionInpaintPipeline:
    """Sees the mask and the masked picture in five further channels."""
    return parts.assembled(StableDiffusionInpaintPipeline, **sd_parts(in_channels=9))


def instruct_pix2pix() -> StableDiffusionInstructPix2PixPipeline:
    """Sees the picture in four further channels; three branches: text and picture, picture, neither."""
    return parts.assembled(StableDiffusionInstructPix2PixPipeline, **sd_parts(in_channels=8))


def controlnet(**config: Any) -> ControlNetModel:
    """A second encoder beside the UNet, with attention of its own; its pictures go through 16 channels."""
    shape = {name: value for name, value in (SD | config).items() if name not in ("sample_size", "up_block_types")}
    return parts.denoiser(ControlNetModel, **shape, conditioning_embedding_out_channels=(4, 8, 8))


def sd1_controlnet() -> StableDiffusionControlNetPipeline:
    """Stable Diffusion 1 led by a picture."""
    return parts.assembled(StableDiffusionControlNetPipeline, **sd_parts(), controlnet=controlnet())


def sdxl_img2img() -> StableDiffusionXLImg2ImgPipeline:
    """Starts from a picture with noise."""
    return parts.assembled(StableDiffusionXLImg2ImgPipeline, **sdxl_parts(), add_watermarker=False)


def sdxl_inpaint() -> StableDiffusionXLInpaintPipeline:
    """With a plain UNet of four channels: what is not masked is put back after every step."""
    return parts.assembled(StableDiffusionXLInpaintPipeline, **sdxl_parts(), add_watermarker=False)


def sdxl_instruct_pix2pix() -> StableDiffusionXLInstructPix2PixPipeline:
    """Three branches, as its elder."""
    return parts.assembled(StableDiffusionXLInstructPix2PixPipeline, **sdxl_parts(in_channels=8), add_watermarker=False)


def sdxl_controlnet() -> StableDiffusionXLControlNetPipeline:
    """Stable Diffusion XL led by a picture."""
    return parts.assembled(
        StableDiffusionXLControlNetPipeline, **sdxl_parts(), controlnet=controlnet(**XL), add_watermarker=False
    )


def from_picture() -> dict[str, Any]:
    """A picture to start from."""
    return {"image": parts.picture()}


def from_masked_picture() -> dict[str, Any]:
    """A picture and what of it is to be painted again."""
    return {"image": parts.picture(), "mask_image": parts.mask()}


HALF = {"num_inference_steps": 2 * parts.STEPS, "strength": 0.5}
FROM_PICTURE = parts.without_size(options(**HALF))
FAMILIES = {
    "sd1": Maker(sd1, options(), core=True),
    "sd2": Maker(sd2, options()),
    "sdxl": Maker(sdxl, options(), core=True),
    "kolors": Maker(kolors, options(max_sequence_length=48)),
    "sd1_img2img": Maker(sd1_img2img, FROM_PICTURE, from_picture),
    "sd1_inpaint": Maker(sd1_inpaint, options(), from_masked_picture),
    "instruct_pix2pix": Maker(instruct_pix2pix, parts.without_size(options(image_guidance_scale=1.5)), from_picture),
    "sd1_controlnet": Maker(sd1_controlnet, options(), from_picture),
    "sdxl_img2img": Maker(sdxl_img2img, FROM_PICTURE, from_picture),
    "sdxl_inpaint": Maker(sdxl_inpaint, options(**HALF), from_masked_picture),
    "sdxl_instruct_pix2pix": Maker(sdxl_instruct_pix2pix, options(image_guidance_scale=1.5), from_picture),
    "sdxl_controlnet": Maker(sdxl_controlnet, options(), from_picture),
}
