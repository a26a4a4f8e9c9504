"""What the tiny pipelines are made of: encoders, autoencoders and schedulers of the real classes, random and small."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

PROMPT = "a cat and a red balloon"
HEIGHT, WIDTH = 64, 96  # pixels; never square, so that swapped axes show
STEPS = 2
M = TypeVar("M", bound=torch.nn.Module)
P = TypeVar("P", bound=DiffusionPipeline)


@dataclass(frozen=True)
class Maker:
    """A family: how its pipeline is built, how it is called, and what is done to it after it was loaded."""

    make: Callable[[], DiffusionPipeline]
    call: dict[str, Any] = field(default_factory=dict)
    inputs: Callable[[], dict[str, Any]] = dict  # further call arguments that cost something: pictures
    after: Callable[[DiffusionPipeline], None] | None = None  # adapters: what `from_pretrained` does not bring back
    core: bool = False  # in the default test run


def options(guidance: float | None = 4.0, **more: Any) -> dict[str, Any]:
    """The call arguments that nearly all pipelines share."""
    shared: dict[str, Any] = {"prompt": PROMPT, "output_type": "np", "num_inference_steps": STEPS}
    scale = {} if guidance is None else {"guidance_scale": guidance}
    return shared | {"height": HEIGHT, "width": WIDTH} | scale | more


def picture(seed: int = 0) -> Image.Image:
    """A picture of the size of all others, to start from: coloured blocks of 16 pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def mask() -> Image.Image:
    """White where a picture is to be painted again: its right half."""
    marked = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    marked[:, WIDTH // 2 :] = 255
    return Image.fromarray(marked)


def without_size(call: dict[str, Any]) -> dict[str, Any]:
    """The call arguments of pipelines that take the size from a picture."""
    return {name: value for name, value in call.items() if name not in ("height", "width")}


def seeded(make: Callable[..., M], seed: int = 0, /, *given: Any, **config: Any) -> M:
    """A module drawn from `seed`, for evaluation; weights that start at zero are drawn too, so that none is idle."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make(*given, **config).eval()
        for weight in module.parameters():
            if weight.ndim > 1 and not weight.any():
                torch.nn.init.normal_(weight.data, std=0.2)
    return module


def denoiser(make: Callable[..., M], **config: Any) -> M:
    """A denoiser whose layers keep the variance of what they are given: prompt and guidance are felt."""
    module = seeded(make, 0, **config)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.mul_(3**0.5)  # torch draws matrices with a third of that variance
    return module


def assembled(make: Callable[..., P], **components: Any) -> P:
    """A pipeline of these components."""
    return make(**components)


def vae(latents: int = 4, *, levels: int = 3, **config: Any) -> AutoencoderKL:
    """An image autoencoder: with three levels a latent cell is 4 x 4 pixels, with four it is 8 x 8."""
    shape: dict[str, Any] = {
        "block_out_channels": (4, *(8,) * (levels - 1)),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "latent_channels": latents,
        "sample_size": 64,
    }
    return seeded(AutoencoderKL, 1, **shape | config)


def flow_vae(latents: int = 4, *, levels: int = 3) -> AutoencoderKL:
    """The autoencoder of the flow models: shifted latents, no 1 x 1 convolutions around the code."""
    flat = {"use_quant_conv": False, "use_post_quant_conv": False}
    return vae(latents, levels=levels, shift_factor=0.06, scaling_factor=1.5, **flat)


def clip_config(tokenizer: PreTrainedTokenizerBase, width: int = 32) -> CLIPTextConfig:
    """A CLIP text encoder of two layers that knows the tokenizer's words."""
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": 2 * width, "projection_dim": width}
    ids: dict[str, Any] = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return CLIPTextConfig(vocab_size=len(tokenizer), num_hidden_layers=2, num_attention_heads=4, **sizes, **ids)


def clip(tokenizer: PreTrainedTokenizerBase, width: int = 32) -> CLIPTextModel:
    """A CLIP text encoder without projection."""
    return seeded(CLIPTextModel, 2, clip_config(tokenizer, width))


def clip_projected(tokenizer: PreTrainedTokenizerBase, width: int = 32) -> CLIPTextModelWithProjection:
    """A CLIP text encoder with projection."""
    return seeded(CLIPTextModelWithProjection, 3, clip_config(tokenizer, width))


def t5(tokenizer: PreTrainedTokenizerBase, width: int = 32) -> T5EncoderModel:
    """A T5 encoder of two layers."""
    sizes: dict[str, Any] = {"d_model": width, "d_kv": 8, "d_ff": 2 * width, "num_layers": 2, "num_heads": 4}
    config = T5Config(vocab_size=len(tokenizer), **sizes)
    return seeded(T5EncoderModel, 4, config)


def umt5(tokenizer: PreTrainedTokenizerBase, width: int = 32) -> UMT5EncoderModel:
    """A UMT5 encoder of two layers."""
    sizes: dict[str, Any] = {"d_model": width, "d_kv": 8, "d_ff": 2 * width, "num_layers": 2, "num_heads": 4}
    return seeded(UMT5EncoderModel, 4, UMT5Config(vocab_size=len(tokenizer), **sizes))


def eyes(width: int = 32) -> CLIPVisionModelWithProjection:
    """A CLIP image encoder of two layers for pictures of 32 x 32 pixels."""
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=width,
        image_size=32,
        patch_size=8,
    )
    return seeded(CLIPVisionModelWithProjection, 5, config)


def eye_processor() -> CLIPImageProcessor:
    """What makes a picture ready for `eyes`."""
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def ddim(**config: Any) -> DDIMScheduler:
    """The scheduler of Stable Diffusion's time, without the clipping of its tests."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **betas, **config)


def flow(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of the flow models."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0, **config)
