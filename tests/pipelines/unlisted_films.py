"""Tiny pipelines of films and sounds beside those of the table: other denoisers, or other things to start from."""

from typing import Any

from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    AutoencoderKLMochi,
    AutoencoderOobleck,
    CogVideoXPipeline,
    EDMDPMSolverMultistepScheduler,
    HunyuanVideoImageToVideoPipeline,
    I2VGenXLPipeline,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    MochiPipeline,
    MochiTransformer3DModel,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    StableAudioDiTModel,
    StableAudioPipeline,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
)
from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLUNet
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from tests.pipelines import llm, parts, video
from tests.pipelines.parts import Maker, options, seeded
from tests.tokenizers import clip_tokenizer, gemma_tokenizer, t5_tokenizer

UNET: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "norm_num_groups": 2,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}


def told(module: Any, **other: Any) -> dict[str, Any]:
    """The config of a module, as arguments, with some of another value."""
    return {name: value for name, value in module.config.items() if not name.startswith("_")} | other


def started(make: Any, made: Any, **other: Any) -> Any:
    """The parts of another pipeline, as a pipeline whose denoiser has a config that differs."""
    denoiser = made.components["transformer"]
    changed = parts.denoiser(type(denoiser), **told(denoiser, **other))
    return parts.assembled(make, **made.components | {"transformer": changed})


def allegro() -> AllegroPipeline:
    """Allegro: attention to the text apart, whose states have an axis of one."""
    tokenizer, levels = t5_tokenizer(), 4
    denoiser = parts.denoiser(
        AllegroTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        cross_attention_dim=24,
        sample_width=12,
        sample_height=8,
        sample_frames=4,
        caption_channels=32,
    )
    coder = seeded(
        AutoencoderKLAllegro,
        1,
        down_block_types=("AllegroDownBlock3D",) * levels,
        up_block_types=("AllegroUpBlock3D",) * levels,
        block_out_channels=(8,) * levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    made = {"text_encoder": parts.t5(tokenizer), "tokenizer": tokenizer, "scheduler": parts.ddim()}
    return parts.assembled(AllegroPipeline, transformer=denoiser, vae=coder, **made)


def i2vgen() -> I2VGenXLPipeline:
    """I2VGen-XL: the keys of the text before those of a picture in one attention; frames are rows of the scheduler."""
    tokenizer = clip_tokenizer()
    return parts.assembled(
        I2VGenXLPipeline,
        unet=parts.denoiser(I2VGenXLUNet, **UNET),
        vae=parts.vae(),
        scheduler=parts.ddim(),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
        image_encoder=parts.eyes(),
        feature_extractor=parts.eye_processor(),
    )


def mochi() -> MochiPipeline:
    """Mochi: each row attends by itself to the film and to its own text without the padding."""
    tokenizer, widths = t5_tokenizer(), (32,) * 4
    denoiser = parts.denoiser(
        MochiTransformer3DModel,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        text_embed_dim=32,
        time_embed_dim=16,
        max_sequence_length=32,
    )
    coder = seeded(
        AutoencoderKLMochi,
        1,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        layers_per_block=(1,) * 5,
    )
    made = {"text_encoder": parts.t5(tokenizer), "tokenizer": tokenizer, "scheduler": parts.flow()}
    return parts.assembled(MochiPipeline, transformer=denoiser, vae=coder, **made)


def sana_video() -> SanaVideoPipeline:
    """Sana Video: linear attention inside the film, attention to the text apart."""
    tokenizer = gemma_tokenizer()
    denoiser = parts.denoiser(
        SanaVideoTransformer3DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=32,
        sample_size=8,
        rope_max_seq_len=32,
    )
    made = {"text_encoder": llm.gemma2(tokenizer), "tokenizer": tokenizer, "scheduler": parts.flow()}
    return parts.assembled(SanaVideoPipeline, transformer=denoiser, vae=video.wan().vae, **made)


def text_to_video() -> TextToVideoSDPipeline:
    """ModelScope's: a UNet over films, whose frames are rows of the scheduler."""
    tokenizer = clip_tokenizer()
    denoiser = parts.denoiser(UNet3DConditionModel, **UNET)
    made = {"text_encoder": parts.clip(tokenizer), "tokenizer": tokenizer, "scheduler": parts.ddim()}
    return parts.assembled(TextToVideoSDPipeline, unet=denoiser, vae=parts.vae(), **made)


def cogvideox15() -> CogVideoXPipeline:
    """CogVideoX 1.5: two latent frames in a cell."""
    return started(CogVideoXPipeline, video.cogvideox(), patch_size_t=2, patch_bias=False)


def wan_of_a_picture() -> WanImageToVideoPipeline:
    """Wan 2.1 from a picture, which has keys of its own before the text's are asked."""
    shape: dict[str, Any] = {
        "hidden_size": 4,
        "projection_dim": 4,
        "intermediate_size": 16,
        "image_size": 32,
        "patch_size": 4,
    }
    eye = seeded(CLIPVisionModel, 5, CLIPVisionConfig(num_hidden_layers=2, num_attention_heads=2, **shape))
    pipe = started(WanImageToVideoPipeline, video.wan(), in_channels=12, image_dim=4, added_kv_proj_dim=48)
    pipe.register_modules(image_encoder=eye, image_processor=parts.eye_processor())
    return pipe


ASKED = "<|end_header_id|><image>a photo<|eot_id|><|end_header_id|>{}<|eot_id|><|start_header_id|>a<|end_header_id|>"
TEMPLATE = {"template": ASKED, "crop_start": 7, "image_emb_len": 4, "image_emb_start": 2, "image_emb_end": 6}


def hunyuan_of_a_picture() -> HunyuanVideoImageToVideoPipeline:
    """HunyuanVideo from a picture: its states before the text's, from which the head of the answer is cut out."""
    made = video.hunyuan_video().components
    tokenizer, denoiser = made["tokenizer"], made["transformer"]
    tokenizer.add_tokens(["<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    image = tokenizer.convert_tokens_to_ids("<image>")
    eye: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 16, "projection_dim": 32, "image_size": 32}
    eye |= {"num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 16}
    ids: dict[str, Any] = {"image_token_id": image, "vision_feature_layer": -1}
    config = LlavaConfig(
        text_config=LlamaConfig(**llm.sizes(tokenizer)).to_dict(),
        vision_config=CLIPVisionConfig(**eye).to_dict(),
        **ids,
    )
    config.image_token_index, config.pad_token_id = image, tokenizer.pad_token_id
    shape = told(denoiser, in_channels=9, image_condition_type="latent_concat", guidance_embeds=False)
    made |= {
        "text_encoder": seeded(LlavaForConditionalGeneration, 8, config),
        "transformer": parts.denoiser(type(denoiser), **shape),
        "image_processor": parts.eye_processor(),
    }
    return parts.assembled(HunyuanVideoImageToVideoPipeline, **made)


def ltx_of_a_picture() -> LTXImageToVideoPipeline:
    """LTX from a picture: the first latent frame is not stepped."""
    return parts.assembled(LTXImageToVideoPipeline, **video.ltx().components)


def ltx_of_films() -> LTXConditionPipeline:
    """LTX under conditions: tokens of further films before its own, all with their places."""
    return parts.assembled(LTXConditionPipeline, **video.ltx().components | {"scheduler": parts.flow()})


def skyreels_forcing() -> SkyReelsV2DiffusionForcingPipeline:
    """SkyReels V2 by diffusion forcing: a copy of the scheduler for each latent frame."""
    made = video.wan().components
    flow = {"use_flow_sigmas": True, "flow_shift": 8.0, "prediction_type": "flow_prediction"}
    denoiser = parts.denoiser(SkyReelsV2Transformer3DModel, **told(made["transformer"]))
    kept = {name: made[name] for name in ("tokenizer", "text_encoder", "vae")}
    scheduler = UniPCMultistepScheduler(**flow)
    return parts.assembled(SkyReelsV2DiffusionForcingPipeline, transformer=denoiser, scheduler=scheduler, **kept)


def sound() -> StableAudioPipeline:
    """Stable Audio: moments in the place of cells."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        StableAudioDiTModel,
        sample_size=16,
        in_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=32,
        time_proj_dim=16,
        global_states_input_dim=64,
        cross_attention_input_dim=32,
    )
    coder: dict[str, Any] = {"encoder_hidden_size": 6, "downsampling_ratios": [1, 2], "channel_multiples": [2, 4]}
    coder |= {"decoder_channels": 3, "decoder_input_channels": 4, "sampling_rate": 4}
    length: dict[str, Any] = {"text_encoder_dim": 32, "conditioning_dim": 32, "min_value": 0, "max_value": 32}
    return parts.assembled(
        StableAudioPipeline,
        transformer=denoiser,
        vae=seeded(AutoencoderOobleck, 1, **coder),
        scheduler=EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0),
        text_encoder=parts.t5(tokenizer),
        tokenizer=tokenizer,
        projection_model=seeded(StableAudioProjectionModel, 3, **length),
    )


def pictured() -> dict[str, Any]:
    """A picture to start from."""
    return {"image": parts.picture()}


SHORT: dict[str, Any] = options(max_sequence_length=32, output_type="latent")
PLAIN: dict[str, Any] = SHORT | {"clean_caption": False}
BINNED: dict[str, Any] = {"use_resolution_binning": False, "complex_human_instruction": None}
UNLISTED = {
    "allegro": Maker(allegro, PLAIN | {"num_frames": 9}),
    "i2vgen": Maker(i2vgen, options(num_frames=3, clip_skip=None), pictured),
    "mochi": Maker(mochi, SHORT | {"num_frames": 7}),
    "sana_video": Maker(sana_video, SHORT | BINNED | {"frames": 5}),
    "text_to_video": Maker(text_to_video, options(num_frames=3)),
}
