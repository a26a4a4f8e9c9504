"""More tiny pipelines whose denoisers the table of families does not hold: of pictures and of films."""

from typing import Any

from diffusers import (
    AnyFlowPipeline,
    AnyFlowTransformer3DModel,
    AutoencoderKLMagvit,
    ChronoEditPipeline,
    ChronoEditTransformer3DModel,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMapEulerDiscreteScheduler,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    LattePipeline,
    LatteTransformer3DModel,
    PRXPipeline,
    PRXTransformer2DModel,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from diffusers import DDPMScheduler as Noise
from transformers import T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from tests.pipelines import kandinsky, llm, parts, unlisted_films, video
from tests.pipelines.parts import Maker, options, seeded
from tests.tokenizers import gemma_tokenizer, qwen_tokenizer, t5_tokenizer

OF_WAN = ("patch_size", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels")
OF_WAN += ("text_dim", "freq_dim", "ffn_dim", "num_layers", "rope_max_seq_len")
SAID = "<|im_start|>user\n{{ messages[0]['content'][0]['text'] }}<|im_end|>\n<|im_start|>assistant\n"


def kandinsky3() -> Kandinsky3Pipeline:
    """Kandinsky 3: a UNet whose time is told the text by the attention of the text's mean."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        Kandinsky3UNet,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(32, 64),
        cross_attention_dim=4,
        encoder_hid_dim=32,
    )
    made = {"tokenizer": tokenizer, "text_encoder": parts.t5(tokenizer), "movq": kandinsky.movq()}
    return parts.assembled(Kandinsky3Pipeline, unet=denoiser, scheduler=Noise(), **made)


def prx() -> PRXPipeline:
    """PRX: cells ask the keys of the text, then those of the picture, in one attention."""
    tokenizer = gemma_tokenizer()
    module = T5GemmaModuleConfig(**llm.sizes(tokenizer), query_pre_attn_scalar=8)
    config = T5GemmaConfig(encoder=module, decoder=module, vocab_size=len(tokenizer)).encoder
    shape: dict[str, Any] = {"hidden_size": 32, "num_heads": 4, "depth": 2, "axes_dim": [4, 4]}
    return parts.assembled(
        PRXPipeline,
        transformer=parts.denoiser(PRXTransformer2DModel, in_channels=4, context_in_dim=32, **shape),
        scheduler=parts.flow(),
        text_encoder=seeded(T5GemmaEncoder, 3, config),
        tokenizer=tokenizer,
        vae=parts.flow_vae(),
    )


def latte() -> LattePipeline:
    """Latte: blocks over a frame, whose cells ask the text, and blocks over a cell's frames by turns."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        LatteTransformer3DModel,
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=32,
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=3,
    )
    made = {"tokenizer": tokenizer, "text_encoder": parts.t5(tokenizer), "vae": parts.vae()}
    return parts.assembled(LattePipeline, transformer=denoiser, scheduler=parts.ddim(), **made)


def easyanimate() -> EasyAnimatePipeline:
    """EasyAnimate: text before the film, inside of a chat template."""
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = SAID
    shape: dict[str, Any] = {"num_layers": 2, "mmdit_layers": 1, "sample_width": 16, "sample_height": 16}
    denoiser = parts.denoiser(
        EasyAnimateTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=llm.WIDTH,
        patch_size=2,
        **shape,
    )
    coder: dict[str, Any] = {"latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}
    return parts.assembled(
        EasyAnimatePipeline,
        vae=seeded(AutoencoderKLMagvit, 1, block_out_channels=[8] * 4, spatial_group_norm=False, **coder),
        text_encoder=llm.qwen_vl(tokenizer),
        tokenizer=tokenizer,
        transformer=denoiser,
        scheduler=parts.flow(),
    )


def of_wan(make: Any, denoiser: Any, told: dict[str, Any], **other: Any) -> Any:
    """Wan's parts around a denoiser that has Wan's shape, and more that it is `told`."""
    made = video.wan().components
    shape = {name: made["transformer"].config[name] for name in OF_WAN}
    kept = {name: made[name] for name in ("tokenizer", "text_encoder", "vae", "scheduler")}
    return parts.assembled(make, transformer=parts.denoiser(denoiser, **shape | told), **kept | other)


def anyflow() -> AnyFlowPipeline:
    """AnyFlow: Wan's blocks under a flow map."""
    return of_wan(AnyFlowPipeline, AnyFlowTransformer3DModel, {}, scheduler=FlowMapEulerDiscreteScheduler())


def vace() -> WanVACEPipeline:
    """Wan VACE: further blocks, led by a film, that ask the text as well."""
    return of_wan(WanVACEPipeline, WanVACETransformer3DModel, {"vace_layers": [0, 1], "vace_in_channels": 24})


def seeing() -> dict[str, Any]:
    """An eye and what makes a picture ready for it."""
    eye = unlisted_films.wan_of_a_picture().components["image_encoder"]
    return {"image_encoder": eye, "image_processor": parts.eye_processor()}


PICTURED: dict[str, Any] = {"in_channels": 12, "image_dim": 4, "added_kv_proj_dim": 48}


def chronoedit() -> ChronoEditPipeline:
    """ChronoEdit: a picture that is edited as the last frame of a film."""
    return of_wan(ChronoEditPipeline, ChronoEditTransformer3DModel, PICTURED, **seeing())


def animate() -> WanAnimatePipeline:
    """Wan Animate: cells of a frame ask the few tokens of a face, too, which are made inside of the denoiser."""
    face: dict[str, Any] = {"face_encoder_hidden_dim": 16, "face_encoder_num_heads": 2, "inject_face_latents_blocks": 2}
    face |= {f"motion_{name}": size for name, size in (("style_dim", 8), ("dim", 4), ("encoder_dim", 16))}
    face |= {"motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16}, "motion_encoder_size": 16}
    flow = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    told = PICTURED | face | {"latent_channels": 4}
    return of_wan(WanAnimatePipeline, WanAnimateTransformer3DModel, told, scheduler=flow, **seeing())


def moving() -> dict[str, Any]:
    """A picture, and films of a pose and of a face that it is to follow."""
    pose = [parts.picture(i) for i in range(5)]
    return {"image": parts.picture(), "pose_video": pose, "face_video": [frame.resize((16, 16)) for frame in pose]}


FILM: dict[str, Any] = options(max_sequence_length=512, output_type="latent")
SEGMENT = {"segment_frame_length": 5, "prev_segment_conditioning_frames": 1}
BINNED: dict[str, Any] = {"use_resolution_binning": False, "skip_text_cleaning": True, "tokenizer_max_length": 32}
UNLISTED = {
    "animate": Maker(animate, FILM | SEGMENT, moving),
    "anyflow": Maker(anyflow, FILM | {"num_frames": 5}),
    "chronoedit": Maker(chronoedit, FILM | {"num_frames": 5}, unlisted_films.pictured),
    "easyanimate": Maker(easyanimate, options(num_frames=9, negative_prompt="a dog", output_type="latent")),
    "kandinsky3": Maker(kandinsky3, options()),
    "latte": Maker(latte, options(video_length=3, clean_caption=False, output_type="latent")),
    "prx": Maker(prx, options(**BINNED)),
    "vace": Maker(vace, FILM | {"num_frames": 5}),
}
