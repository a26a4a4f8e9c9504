"""The pipelines of bench_record: Menagerie, and random denoisers with the widths of published models.

Widths, heads and resolutions are those of the published models; all but Stable Diffusion 1.5 are cut in depth. Their
text encoders are small and read Menagerie's vocabulary: only the denoiser's time matters. `quick` makes toys of them.
"""

import string
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

import probe
from probe.generator import parts
from probe.generator.tokenizer import build
from probe.generator.world.vocabulary import all_words


@dataclass(frozen=True)
class Shape:
    """A pipeline to measure. `full` is (sites, steps) of the published model, where a reading has the same size."""

    name: str
    make: Callable[[bool], Any]  # given `quick`
    pixels: int
    steps: int
    guidance: float = 5.0
    full: tuple[int, int] | None = None
    bar: int | None = None  # MiB that the maps of five words should not exceed there

    def side(self, quick: bool) -> int:
        """Width and height in pixels."""
        return 128 if quick else self.pixels


def clip(width: int, *, projected: bool = False) -> tuple[CLIPTokenizer, Any]:
    """A tokenizer and a CLIP text encoder of one layer."""
    tokenizer = build()
    ids: dict[str, Any] = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": width, "projection_dim": width}
    config = CLIPTextConfig(vocab_size=len(tokenizer), num_hidden_layers=1, num_attention_heads=4, **sizes, **ids)
    return tokenizer, (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5(width: int) -> tuple[T5Tokenizer, T5EncoderModel]:
    """A tokenizer that has every word of Menagerie's as one token, and a T5 encoder of one layer."""
    pieces = {f"▁{word}": -5.0 for word in all_words()} | dict.fromkeys(("▁", *string.ascii_lowercase), -9.0)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces.items()]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=4)
    return tokenizer, T5EncoderModel(config).eval()


def coder(channels: int, levels: int = 4) -> AutoencoderKL:
    """An autoencoder that says how large a latent cell is; it is not run."""
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=2,
        latent_channels=channels,
    ).eval()


def menagerie(quick: bool) -> StableDiffusionPipeline:
    """Menagerie; its untrained parts for a quick look, so that no weights are needed."""
    if not quick:
        return probe.load()
    tokenizer = build()
    encoder = parts.text_encoder(parts.clip(tokenizer))
    return _sd(parts.denoiser().eval(), tokenizer, encoder, parts.autoencoder().eval())


def sd15(quick: bool) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5's denoiser, whole."""
    widths, width = ((8, 16, 16, 16), 32) if quick else ((320, 640, 1280, 1280), 768)
    denoiser = UNet2DConditionModel(
        block_out_channels=widths, cross_attention_dim=width, norm_num_groups=8 if quick else 32, sample_size=64,
    )  # fmt: skip
    return _sd(denoiser.eval(), *clip(width), coder(4))


def _sd(denoiser: Any, tokenizer: Any, encoder: Any, vae: AutoencoderKL) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae, text_encoder=encoder, tokenizer=tokenizer, unet=denoiser, scheduler=parts.scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl(quick: bool) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL's denoiser with one layer a block and one transformer layer in each."""
    widths, heads = ((8, 16, 32), (1, 2, 4)) if quick else ((320, 640, 1280), (5, 10, 20))
    first, second = (16, 16) if quick else (768, 1280)
    denoiser = UNet2DConditionModel(
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=heads,
        cross_attention_dim=first + second,
        norm_num_groups=8 if quick else 32,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + second,
        sample_size=128,
    )
    tokenizer, encoder = clip(first)
    tokenizer_2, encoder_2 = clip(second, projected=True)
    return StableDiffusionXLPipeline(
        vae=coder(4), text_encoder=encoder, text_encoder_2=encoder_2, tokenizer=tokenizer, tokenizer_2=tokenizer_2,
        unet=denoiser.eval(), scheduler=parts.scheduler(), add_watermarker=False,
    )  # fmt: skip


def sd3(quick: bool) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3's denoiser with 2 of its 24 blocks; T5's columns are the zeros of a pipeline without it."""
    heads, size = (2, 8) if quick else (24, 64)
    first, second, text = (16, 16, 32) if quick else (768, 1280, 4096)
    denoiser = SD3Transformer2DModel(
        sample_size=128,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        num_attention_heads=heads,
        attention_head_dim=size,
        caption_projection_dim=heads * size,
        joint_attention_dim=text,
        pooled_projection_dim=first + second,
        pos_embed_max_size=192,
    )
    tokenizer, encoder = clip(first, projected=True)
    tokenizer_2, encoder_2 = clip(second, projected=True)
    return StableDiffusion3Pipeline(
        transformer=denoiser.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=coder(16),
        text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


def flux1(quick: bool) -> FluxPipeline:
    """FLUX.1's denoiser with 1 of its 19 double and 1 of its 38 single blocks."""
    heads, size, axes = (2, 8, (2, 2, 4)) if quick else (24, 128, (16, 56, 56))
    pooled, text = (16, 32) if quick else (768, 4096)
    denoiser = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=heads,
        attention_head_dim=size,
        joint_attention_dim=text,
        pooled_projection_dim=pooled,
        guidance_embeds=True,
        axes_dims_rope=axes,
    )
    tokenizer, encoder = clip(pooled)
    tokenizer_2, encoder_2 = t5(text)
    return FluxPipeline(
        transformer=denoiser.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=coder(16),
        text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
    )  # fmt: skip


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("Menagerie", menagerie, 128, 50),
        Shape("SD 1.5", sd15, 512, 2, full=(16, 50), bar=30),
        Shape("SDXL", sdxl, 1024, 1),
        Shape("SD3", sd3, 1024, 1, full=(24, 28)),
        Shape("FLUX.1", flux1, 1024, 1, 3.5, full=(57, 28), bar=130),
    )
}


def build_pipeline(shape: Shape, quick: bool) -> Any:
    """The pipeline, with the same random weights every time."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        pipe = shape.make(quick)
    pipe.set_progress_bar_config(disable=True)
    return pipe
