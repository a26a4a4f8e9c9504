"""Other tiny pipelines around denoisers that the table holds: other starts, other guidance, other schedules."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

import diffusers
from diffusers import DDPMScheduler, DiffusionPipeline, LCMScheduler, T2IAdapter

from tests.pipelines import dit, joint, parts, unet, video
from tests.pipelines.parts import Maker, options, without_size
from tests.pipelines.unlisted_films import told

Parts = dict[str, Any]


def of(name: str, made: Callable[[], Any], *, denoiser: Mapping[str, int] | None = None, **other: Any) -> Any:
    """A pipeline of diffusers, by name, of another's parts; `denoiser` says where that one's config differs."""
    own = made()
    given: Parts = own if isinstance(own, dict) else dict(own.components)
    if denoiser:
        model = given["transformer"]
        given["transformer"] = parts.denoiser(type(model), **told(model, **denoiser))
    make: Any = getattr(diffusers, name)
    asked = signature(make.__init__).parameters
    kept = {part: value for part, value in given.items() if part in asked}
    return parts.assembled(make, **kept | {part: drawn() for part, drawn in other.items()})


def kin(name: str, made: Callable[[], Any], **other: Any) -> Callable[[], DiffusionPipeline]:
    """How a pipeline of another's parts is built."""
    return partial(of, name, made, **other)


def adapter() -> T2IAdapter:
    """What adds features of a picture to those of the UNet."""
    levels: dict[str, Any] = {"channels": [16, 32, 32], "num_res_blocks": 1, "downscale_factor": 4}
    return parts.seeded(T2IAdapter, 1, **levels)


def beside(net: str, made: Callable[[], Any], **other: Any) -> Any:
    """A ControlNet of diffusers, by name, of the shape of a pipeline's transformer."""
    make: Any = getattr(diffusers, net)
    shape = told(made().components["transformer"])
    asked = signature(make.__init__).parameters
    return parts.denoiser(make, **{name: value for name, value in shape.items() if name in asked} | other)


def sparse() -> Any:
    """A ControlNet of films that is led by few of their frames."""
    shape: Parts = {"layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 32, "attention_head_dim": 4}
    blocks = ("CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion", "DownBlockMotion")
    widths: Parts = {"block_out_channels": (16, 32, 32), "conditioning_channels": 3}
    widths |= {"conditioning_embedding_out_channels": (4, 8, 8)}
    shape |= widths | {"down_block_types": blocks, "use_simplified_condition_embedding": False}
    return parts.denoiser(diffusers.SparseControlNetModel, motion_num_attention_heads=2, **shape)


def masked() -> Parts:
    """A picture and what of it is to be painted again."""
    return painted() | {"mask_image": parts.mask()}


def framed() -> Parts:
    """One frame that leads a film."""
    return {"conditioning_frames": [parts.picture()], "controlnet_frame_indices": [0]}


def painted() -> Parts:
    """A picture to start from."""
    return {"image": parts.picture()}


def led() -> Parts:
    """A picture that leads."""
    return {"control_image": parts.picture()}


def filmed(frames: int) -> Parts:
    """A film to start from."""
    return {"video": [parts.picture(i) for i in range(frames)]}


HALF: Parts = {"num_inference_steps": 2 * parts.STEPS, "strength": 0.5}
SHORT: Parts = {"max_sequence_length": 32}
FILM: Parts = SHORT | {"output_type": "latent"}
PLAIN: Parts = SHORT | {"use_resolution_binning": False}
SANA: Parts = PLAIN | {"complex_human_instruction": None}
PAG: Parts = {"pag_scale": 3.0}
WIDE = {"in_channels": 8, "out_channels": 4}
PACKED = {"in_channels": 32, "out_channels": 16}
FILLED = {"in_channels": 2 * 16 + 64, "out_channels": 16}  # of the masked picture, and of the mask
BOTH, THREE = [("uncond", "cond")], [("uncond", "cond", "cond#2")]
ONE, TURNS = [("cond",)], [("cond",), ("uncond",)]
KIN: dict[str, tuple[Maker, list[tuple[str, ...]]]] = {  # the branches of each pass of the first step
    "adapter": (Maker(kin("StableDiffusionAdapterPipeline", unet.sd_parts, adapter=adapter), options(), painted), BOTH),
    "animate_v2v": (
        Maker(
            kin("AnimateDiffVideoToVideoPipeline", video.animate_diff),
            options(output_type="latent", **HALF),
            partial(filmed, 3),
        ),
        BOTH,
    ),
    "chroma_i2i": (Maker(kin("ChromaImg2ImgPipeline", joint.chroma), options(**HALF, **SHORT), painted), TURNS),
    "cogview4_control": (
        Maker(kin("CogView4ControlPipeline", joint.cogview4, denoiser=WIDE), options(**SHORT), led),
        TURNS,
    ),
    "cogvideox_i2v": (
        Maker(
            kin("CogVideoXImageToVideoPipeline", video.cogvideox, denoiser=WIDE),
            options(num_frames=9, **FILM),
            painted,
        ),
        BOTH,
    ),
    "flux_control": (
        Maker(kin("FluxControlPipeline", joint.flux1, denoiser=PACKED), options(3.5, **SHORT), led),
        ONE,
    ),
    "flux_controlnet": (
        Maker(
            kin(
                "FluxControlNetPipeline",
                joint.flux1,
                controlnet=partial(beside, "FluxControlNetModel", joint.flux1, num_single_layers=1),
            ),
            options(3.5, **SHORT),
            led,
        ),
        ONE,
    ),
    "flux_fill": (
        Maker(kin("FluxFillPipeline", joint.flux1, denoiser=FILLED), options(3.5, **SHORT), masked),
        ONE,
    ),
    "flux_i2i": (Maker(kin("FluxImg2ImgPipeline", joint.flux1), options(3.5, **HALF, **SHORT), painted), ONE),
    "flux_kontext": (
        Maker(
            kin("FluxKontextPipeline", joint.flux1),
            options(3.5, _auto_resize=False, max_area=parts.HEIGHT * parts.WIDTH, **SHORT),
            painted,
        ),
        ONE,
    ),
    "hunyuan_dit_pag": (
        Maker(
            kin("HunyuanDiTPAGPipeline", dit.hunyuan_dit, pag_applied_layers=lambda: ["blocks.1"]),
            options(use_resolution_binning=False, **PAG),
        ),
        THREE,
    ),
    "lcm": (
        Maker(
            kin(
                "LatentConsistencyModelPipeline",
                partial(unet.sd_parts, time_cond_proj_dim=16),
                scheduler=LCMScheduler,
            ),
            options(),
        ),
        ONE,
    ),
    "lucy": (
        Maker(
            kin("LucyEditPipeline", video.wan, denoiser={"in_channels": 8}),
            options(num_frames=5, **FILM),
            partial(filmed, 5),
        ),
        TURNS,
    ),
    "pixart_alpha": (
        Maker(kin("PixArtAlphaPipeline", dit.pixart_sigma), options(clean_caption=False, **PLAIN)),
        BOTH,
    ),
    "qwen_i2i": (
        Maker(
            kin("QwenImageImg2ImgPipeline", joint.qwen_image),
            options(None, true_cfg_scale=4.0, negative_prompt="a dog", **HALF),
            painted,
        ),
        [("cond",), ("negative",)],
    ),
    "safe": (  # a third row of a text of its own, from which it turns away
        Maker(kin("StableDiffusionPipelineSafe", unet.sd_parts), options()),
        [("uncond", "cond", "further")],
    ),
    "sana_controlnet": (
        Maker(
            kin(
                "SanaControlNetPipeline",
                dit.sana,
                controlnet=partial(beside, "SanaControlNetModel", dit.sana, num_layers=1),
            ),
            options(**SANA),
            led,
        ),
        BOTH,
    ),
    "sana_pag": (
        Maker(
            kin("SanaPAGPipeline", dit.sana, pag_applied_layers=lambda: ["transformer_blocks.0"]),
            options(**SANA, **PAG),
        ),
        THREE,
    ),
    "sd3_controlnet": (
        Maker(
            kin(
                "StableDiffusion3ControlNetPipeline",
                joint.sd3,
                controlnet=partial(beside, "SD3ControlNetModel", joint.sd3),
            ),
            options(**SHORT),
            led,
        ),
        BOTH,
    ),
    "sparse_controlnet": (
        Maker(
            kin("AnimateDiffSparseControlNetPipeline", video.animate_diff, controlnet=sparse),
            options(num_frames=3, output_type="latent"),
            framed,
        ),
        BOTH,
    ),
    "upscale": (
        Maker(
            kin(
                "StableDiffusionUpscalePipeline",
                partial(unet.sd_parts, in_channels=7, num_class_embeds=1000),
                low_res_scheduler=DDPMScheduler,
            ),
            without_size(options(noise_level=20)),
            lambda: {"image": parts.picture().resize((24, 16))},
        ),
        BOTH,
    ),
    "wan_v2v": (
        Maker(kin("WanVideoToVideoPipeline", video.wan), options(**FILM, **HALF), partial(filmed, 5)),
        TURNS,
    ),
    "z_image_i2i": (Maker(kin("ZImageImg2ImgPipeline", joint.z_image), options(**HALF), painted), [("cond", "uncond")]),
}
