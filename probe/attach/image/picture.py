"""An existing picture and its latents, through a pipeline's own autoencoder."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.attach.kept.thumbnails import decoded, home
from probe.attach.model.families import Family
from probe.errors import BadInput


def opened(image: Any) -> Image.Image:
    """A picture, or the one in a file. Raises BadInput."""
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, str | PathLike):
        shape = f" {list(image.shape)}" if hasattr(image, "shape") else ""
        raise BadInput(
            f"image is {type(image).__name__}{shape}; expected a picture of PIL, or the path of its file. "
            "Of an array [y, x, rgb] of uint8 it is made by PIL.Image.fromarray(array)"
        )
    try:
        with Image.open(image) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as problem:
        raise BadInput(f"image={str(image)!r} cannot be read ({problem}); give a PNG or JPEG file") from problem


def fitted(picture: Image.Image, pipe: Any, family: Family) -> Image.Image:
    """The picture as RGB, its sides cut down to what the pipeline can draw: a whole number of cells of the denoiser."""
    side = max(8, int(pipe.vae_scale_factor) * max(family.patch, family.packed))
    width, height = (max(side, length // side * side) for length in picture.size)
    rgb = picture.convert("RGB")
    return rgb if rgb.size == (width, height) else rgb.resize((width, height), Image.Resampling.LANCZOS)


@torch.no_grad()
def encoded(picture: Image.Image, vae: Any) -> Tensor:
    """The most likely latents [1, c, y, x] of a picture, float32, as the denoiser knows them."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with _able(vae):
        found = vae.encode(pixels.to(home(vae), vae.dtype))
    z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latent
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return (z.float() - shift) * vae.config.scaling_factor


@torch.no_grad()
def drawn(z: Tensor, vae: Any) -> Image.Image:
    """The picture of latents [1, c, y, x]."""
    with _able(vae):
        pixels = decoded(z, vae)[0].float()
    return Image.fromarray(((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


@contextmanager
def _able(vae: Any) -> Iterator[None]:
    """The autoencoder in float32, where half precision is too narrow for it; there and back nothing is lost."""
    narrow = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    if narrow:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if narrow:
            vae.to(torch.float16)


def psnr(picture: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures of one size, in dB; infinite when they are equal."""
    a, b = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (picture, other))
    mse = float(((a - b) ** 2).mean())
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
