"""Tiny pipelines of pictures whose denoisers the table of families does not hold: their layout has to be inferred."""

from typing import Any

from diffusers import (
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
    BriaPipeline,
    BriaTransformer2DModel,
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)

from tests.pipelines import joint, llm, parts
from tests.pipelines.parts import Maker, options
from tests.tokenizers import clip_tokenizer, gemma_tokenizer, llama_tokenizer, qwen_tokenizer, t5_tokenizer

BLOCKS: dict[str, Any] = {"num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 8}
BOTH = BLOCKS | {"num_single_layers": 2}


def bria() -> BriaPipeline:
    """Bria 3: FLUX's blocks; text read without padding, filled up with zeros."""
    tokenizer = t5_tokenizer()
    return parts.assembled(
        BriaPipeline,
        transformer=parts.denoiser(
            BriaTransformer2DModel, in_channels=16, joint_attention_dim=32, axes_dims_rope=[2, 2, 4], **BOTH
        ),
        scheduler=parts.flow(),
        vae=parts.vae(),
        text_encoder=parts.t5(tokenizer),
        tokenizer=tokenizer,
    )


def bria_fibo() -> BriaFiboPipeline:
    """Bria FIBO: two layers of a Llama side by side in the channels, others in the blocks; a cell is 16 x 16 pixels."""
    tokenizer = llm.starting(llama_tokenizer(side="right"))
    return parts.assembled(
        BriaFiboPipeline,
        transformer=parts.denoiser(
            BriaFiboTransformer2DModel,
            in_channels=4,
            joint_attention_dim=2 * llm.WIDTH,
            text_encoder_dim=llm.WIDTH,
            axes_dims_rope=[2, 2, 4],
            **BOTH,
        ),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=joint.qwen_image().vae,
        text_encoder=llm.llama(tokenizer),
        tokenizer=tokenizer,
    )


def cogview3() -> CogView3PlusPipeline:
    """CogView 3 Plus: text before the picture, latents as planes."""
    tokenizer = t5_tokenizer()
    sizes = {"text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 8, "pos_embed_max_size": 24}
    return parts.assembled(
        CogView3PlusPipeline,
        transformer=parts.denoiser(
            CogView3PlusTransformer2DModel, in_channels=4, out_channels=4, sample_size=24, **BLOCKS, **sizes
        ),
        scheduler=CogVideoXDDIMScheduler(),
        vae=parts.vae(),
        text_encoder=parts.t5(tokenizer),
        tokenizer=tokenizer,
    )


def ernie() -> ErnieImagePipeline:
    """ERNIE-Image: a list of text states of their own lengths, given to the denoiser as one tensor by another name."""
    tokenizer = llm.starting(llama_tokenizer())
    denoiser = parts.denoiser(
        ErnieImageTransformer2DModel,
        hidden_size=32,
        num_attention_heads=4,
        num_layers=2,
        ffn_hidden_size=64,
        in_channels=16,
        out_channels=16,
        text_in_dim=llm.WIDTH,
        rope_axes_dim=(4, 2, 2),
    )
    return parts.assembled(
        ErnieImagePipeline,
        transformer=denoiser,
        vae=joint.flux2_parts()["vae"],
        text_encoder=llm.llama(tokenizer),
        tokenizer=tokenizer,
        scheduler=parts.flow(),
    )


def kandinsky5() -> Kandinsky5T2IPipeline:
    """Kandinsky 5: latents of one frame with their channels last, attention modules with names of their own."""
    tokenizer, tokenizer_2 = qwen_tokenizer(), clip_tokenizer()
    denoiser = parts.denoiser(
        Kandinsky5Transformer3DModel,
        in_text_dim=llm.WIDTH,
        in_text_dim2=32,
        time_dim=32,
        model_dim=32,
        ff_dim=64,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 2, 2),
    )
    pipe = parts.assembled(
        Kandinsky5T2IPipeline,
        transformer=denoiser,
        vae=parts.flow_vae(levels=4),
        text_encoder=llm.qwen_vl(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=parts.clip(tokenizer_2),
        tokenizer_2=tokenizer_2,
        scheduler=parts.flow(),
    )
    pipe.resolutions = [(parts.WIDTH, parts.HEIGHT)]
    return pipe


def krea2() -> Krea2Pipeline:
    """Krea 2: layers of a Qwen 3 VL stacked in an axis of their own; the places of all tokens in one argument."""
    tokenizer = qwen_tokenizer()
    text = {"text_num_attention_heads": 4, "text_num_key_value_heads": 4, "text_intermediate_size": 64}
    denoiser = parts.denoiser(
        Krea2Transformer2DModel,
        in_channels=16,
        num_key_value_heads=2,
        intermediate_size=64,
        timestep_embed_dim=16,
        text_hidden_dim=llm.WIDTH,
        num_text_layers=3,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
        **BLOCKS,
        **text,
    )
    return parts.assembled(
        Krea2Pipeline,
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=joint.qwen_image().vae,
        text_encoder=llm.qwen3_vl(tokenizer),
        tokenizer=tokenizer,
        transformer=denoiser,
        text_encoder_select_layers=(1, 2, 3),
    )


def longcat() -> LongCatImagePipeline:
    """LongCat-Image: a head and a tail of a template around the prompt's columns, which are cut out of both."""
    tokenizer = qwen_tokenizer()
    denoiser = parts.denoiser(
        LongCatImageTransformer2DModel,
        in_channels=64,
        joint_attention_dim=llm.WIDTH,
        pooled_projection_dim=llm.WIDTH,
        axes_dims_rope=(2, 2, 4),
        **BOTH,
    )
    pipe = parts.assembled(
        LongCatImagePipeline,
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flow_vae(16),
        text_encoder=llm.qwen_vl(tokenizer),
        tokenizer=tokenizer,
        text_processor=None,
        transformer=denoiser,
    )
    pipe.tokenizer_max_length = 32
    return pipe


def lumina() -> LuminaPipeline:
    """Lumina-Next: attention to the text apart, of a layer before the last; cond before uncond in the batch."""
    tokenizer = llm.starting(gemma_tokenizer())
    denoiser = parts.denoiser(
        LuminaNextDiT2DModel,
        sample_size=16,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=16,
        cross_attention_dim=llm.WIDTH,
    )
    return parts.assembled(
        LuminaPipeline,
        transformer=denoiser,
        scheduler=parts.flow(),
        vae=parts.vae(levels=4),
        text_encoder=llm.gemma2(tokenizer),
        tokenizer=tokenizer,
    )


def ovis() -> OvisImagePipeline:
    """Ovis-Image: a system prompt whose head is cut off, padding set to zero, guidance in a second call."""
    tokenizer = qwen_tokenizer()
    denoiser = parts.denoiser(
        OvisImageTransformer2DModel,
        in_channels=16,
        out_channels=16,
        joint_attention_dim=llm.WIDTH,
        axes_dims_rope=(2, 2, 4),
        **BOTH,
    )
    return parts.assembled(
        OvisImagePipeline,
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flow_vae(),
        text_encoder=llm.qwen3_base(tokenizer),
        tokenizer=tokenizer,
        transformer=denoiser,
    )


SHORT: dict[str, Any] = options(max_sequence_length=32)
UNLISTED = {
    "bria": Maker(bria, SHORT),
    "bria_fibo": Maker(bria_fibo, SHORT | {"negative_prompt": "a dog"}),
    "cogview3": Maker(cogview3, SHORT),
    "ernie": Maker(ernie, options(negative_prompt="a dog")),
    "kandinsky5": Maker(kandinsky5, options(max_sequence_length=256)),
    "krea2": Maker(krea2, options(max_sequence_length=128)),
    "longcat": Maker(longcat, options(enable_prompt_rewrite=False)),
    "lumina": Maker(lumina, options(clean_caption=False)),
    "ovis": Maker(ovis, options(max_sequence_length=128)),
}
