"""Tiny pipelines whose denoiser mixes the texts of several encoders anew for every prompt, or every layer."""

from typing import Any

from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from transformers import (
    ByT5Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.pipelines import llm, parts
from tests.pipelines.parts import Maker, options, seeded
from tests.tokenizers import clip_tokenizer, llama_tokenizer, qwen_tokenizer, t5_tokenizer

GLYPHS = 48  # columns of the letters to be drawn
BLOCKS: dict[str, Any] = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2, "num_refiner_layers": 1}
READS: dict[str, Any] = {"text_embed_dim": llm.WIDTH, "text_embed_2_dim": 32}


def encoders() -> dict[str, Any]:
    """A language model for the whole prompt, and a ByT5 for what stands in quotation marks."""
    tokenizer, letters = qwen_tokenizer(), ByT5Tokenizer(extra_ids=0)
    made = {"tokenizer": tokenizer, "tokenizer_2": letters, "text_encoder_2": parts.t5(letters)}
    return made | {"text_encoder": llm.qwen_vl(tokenizer)}


def hunyuan_image() -> HunyuanImagePipeline:
    """HunyuanImage 2.1: what is attended to of both encoders comes first, and then the padding of both."""
    denoiser = parts.denoiser(
        HunyuanImageTransformer2DModel,
        in_channels=4,
        out_channels=4,
        num_single_layers=2,
        rope_axes_dim=(4, 4),
        **BLOCKS | READS,
    )
    shape: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 1}
    shape |= {"block_out_channels": (32, 32, 32, 32), "spatial_compression_ratio": 8, "sample_size": 64}
    return parts.assembled(
        HunyuanImagePipeline,
        transformer=denoiser,
        vae=seeded(AutoencoderKLHunyuanImage, 1, scaling_factor=0.75, **shape),
        scheduler=parts.flow(),
        guider=AdaptiveProjectedMixGuidance(guidance_scale=4.0),
        ocr_guider=None,
        **encoders(),
    )


def hunyuan_video15() -> HunyuanVideo15Pipeline:
    """HunyuanVideo 1.5: as HunyuanImage, with the tokens of a picture before all, which may be none."""
    made = encoders()
    denoiser = parts.denoiser(
        HunyuanVideo15Transformer3DModel,
        in_channels=9,
        out_channels=4,
        patch_size=1,
        patch_size_t=1,
        image_embed_dim=16,
        rope_axes_dim=(2, 2, 4),
        target_size=64,
        **BLOCKS | READS,
    )
    shape: dict[str, Any] = {"latent_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 32, 32, 32)}
    shape |= {"spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
    return parts.assembled(
        HunyuanVideo15Pipeline,
        transformer=denoiser,
        vae=seeded(AutoencoderKLHunyuanVideo15, 1, **shape),
        scheduler=parts.flow(),
        guider=ClassifierFreeGuidance(guidance_scale=4.0),
        **made | {"text_encoder": made["text_encoder"].model.language_model},
    )


def hunyuan_video15_of_a_picture() -> HunyuanVideo15ImageToVideoPipeline:
    """HunyuanVideo 1.5 from a picture, which has four tokens before the text."""
    sides: dict[str, Any] = {"image_size": 16, "patch_size": 8}
    eye = SiglipVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, **sides)
    made = {"image_encoder": seeded(SiglipVisionModel, 5, eye)}
    made |= {"feature_extractor": SiglipImageProcessor(size={"height": 16, "width": 16})}
    return parts.assembled(HunyuanVideo15ImageToVideoPipeline, **hunyuan_video15().components, **made)


def hidream() -> HiDreamImagePipeline:
    """HiDream: T5, the last states of a Llama, and behind them those of a layer of it that every block chooses."""
    clips, letters, llama = (clip_tokenizer(), clip_tokenizer()), t5_tokenizer(), llama_tokenizer(side="right")
    denoiser = parts.denoiser(
        HiDreamImageTransformer2DModel,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[32, llm.WIDTH],
        text_emb_dim=64,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(24, 24),
        llama_layers=[0, 1, 2, 3],
    )
    return parts.assembled(
        HiDreamImagePipeline,
        transformer=denoiser,
        vae=parts.flow_vae(),
        scheduler=parts.flow(),
        tokenizer=clips[0],
        text_encoder=parts.clip_projected(clips[0]),
        tokenizer_2=clips[1],
        text_encoder_2=parts.clip_projected(clips[1]),
        tokenizer_3=letters,
        text_encoder_3=parts.t5(letters),
        tokenizer_4=llama,
        text_encoder_4=seeded(LlamaForCausalLM, 8, LlamaConfig(**llm.sizes(llama))),
    )


def short(pipe: Any) -> None:
    """Fewer columns than the released weights have, behind a shorter template."""
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 160, GLYPHS


def shorter(pipe: Any) -> None:
    """The same for films, with fewer tokens of a picture."""
    short(pipe)
    pipe.vision_num_semantic_tokens, pipe.prompt_template_encode_start_idx = 5, 3
    pipe.system_message = "Describe the video."


def small(pipe: Any) -> None:
    """It draws pictures of one area, whatever they are asked to be: that of the others, nearly."""
    pipe.default_sample_size = 20


FAMILIES = {
    "hunyuan_image": Maker(hunyuan_image, options(None, negative_prompt="a dog"), after=short),
    "hunyuan_video15": Maker(hunyuan_video15, options(None, num_frames=5, negative_prompt="a dog"), after=shorter),
    "hidream": Maker(hidream, options(max_sequence_length=32), after=small),
}
