"""How the model card's pictures are made: plainly, and by diffusers' own Attend-and-Excite."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from probe.generator.names import GUIDANCE

STEPS, BATCH = 50, 8
SEMANTIC = (16, 16)  # the grid of the maps that the papers use: two levels below the pictures' latents in SD 1


def paint(pipe: Any, prompts: Sequence[str], seed: int = 0, guidance: float = GUIDANCE) -> list[Image.Image]:
    """One picture a prompt; prompt i has seed `seed + i`."""
    out: list[Image.Image] = []
    for i in range(0, len(prompts), BATCH):
        some = list(prompts[i : i + BATCH])
        rng = [torch.Generator().manual_seed(seed + i + k) for k in range(len(some))]
        out += pipe(some, num_inference_steps=STEPS, guidance_scale=guidance, generator=rng).images
    return out


def excite(pipe: Any, prompt: str, kinds: Sequence[str], seed: int) -> Image.Image:
    """A picture by the port, with its defaults but for the model's own guidance."""
    from diffusers import StableDiffusionAttendAndExcitePipeline

    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "safety_checker", "feature_extractor")
    positions = [1 + prompt.split().index(kind) for kind in kinds]  # one token a word, after the start token
    options: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "attn_res": SEMANTIC}
    parts: dict[str, Any] = {name: getattr(pipe, name, None) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the port is deprecated and calls torch in old ways; it is what is compared
        rival = StableDiffusionAttendAndExcitePipeline(**parts, requires_safety_checker=False)
        rival.set_progress_bar_config(disable=True)
        rng = torch.Generator().manual_seed(seed)
        made: Any = rival(prompt, token_indices=positions, generator=rng, **options)
    return made.images[0]
