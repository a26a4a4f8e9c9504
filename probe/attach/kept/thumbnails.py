"""Small pictures of the predicted clean latents, one a step."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

DECODED_CELLS = 1 << 16  # latent cells, over all steps and pictures, up to which the pipeline's own decoder is used
BATCH = 8


@torch.no_grad()
def thumbnails(predicted: list[Tensor], final: Tensor, pictures: list[Image.Image], pipe: Any) -> np.ndarray | None:
    """[step, image, y, x, rgb] uint8, or None where there is nothing to go by.

    Few and small latents are decoded. For others decoding would cost more than generating, so the colours are a
    least-squares fit from the last latents to the finished pictures, at the latents' resolution.
    """
    if final.ndim != 4 or not predicted:
        return None
    vae = getattr(pipe, "vae", None)
    few = sum(z.shape[0] * z.shape[-1] * z.shape[-2] for z in predicted) <= DECODED_CELLS
    if few and decodes(vae, final.shape[1]):
        return _decoded(torch.stack(predicted), vae)
    if len(pictures) == len(final):
        return _fitted(torch.stack(predicted), final, pictures)
    return None


def thumbnail_bytes(shape: tuple[int, ...], steps: int, pipe: Any) -> int:
    """Bytes of the thumbnails of a run whose latents have this shape [image, c, h, w]."""
    if len(shape) != 4:
        return 0
    images, channels, h, w = shape
    vae = getattr(pipe, "vae", None)
    scale = 1
    if vae is not None and steps * images * h * w <= DECODED_CELLS and decodes(vae, channels):
        levels = getattr(vae.config, "block_out_channels", None) or vae.config.encoder_block_out_channels
        scale = 2 ** (len(levels) - 1)
    return 3 * steps * images * h * w * scale**2


def decodes(vae: Any, channels: int) -> bool:
    """Whether latents are what a picture's autoencoder decodes, without statistics of its own."""
    config = getattr(vae, "config", None)
    if not getattr(config, "scaling_factor", None) or getattr(config, "latents_mean", None) is not None:
        return False
    return not hasattr(vae, "bn") and channels == getattr(config, "latent_channels", None)


def _decoded(z: Tensor, vae: Any) -> np.ndarray:
    """[step, image, c, h, w] through the autoencoder."""
    pictures = torch.cat([decoded(part, vae) for part in z.flatten(0, 1).split(BATCH)])
    pixels = ((pictures.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    return pixels.permute(0, 2, 3, 1).unflatten(0, z.shape[:2]).cpu().numpy()


def decoded(z: Tensor, vae: Any) -> Tensor:
    """Latents [n, c, h, w] as pictures [n, 3, y, x], from about -1 to 1; with a graph where there is one."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return vae.decode(z.to(home(vae), vae.dtype) / vae.config.scaling_factor + shift).sample


def home(module: Any) -> Any:
    """The device on which a module works, wherever it is kept until it is called."""
    return getattr(getattr(module, "_hf_hook", None), "execution_device", None) or next(module.parameters()).device


def _fitted(z: Tensor, final: Tensor, pictures: list[Image.Image]) -> np.ndarray:
    """[step, image, c, h, w] -> colours by a linear map from latents to the finished picture's pixels."""
    h, w = z.shape[-2:]
    small = [np.asarray(p.convert("RGB").resize((w, h), Image.Resampling.BOX), dtype=np.float64) for p in pictures]
    features = _features(final.float().cpu().numpy())
    fit, *_ = np.linalg.lstsq(features, np.stack(small).reshape(-1, 3), rcond=None)
    rows = _features(z.flatten(0, 1).float().cpu().numpy()) @ fit
    return rows.clip(0, 255).round().astype(np.uint8).reshape(*z.shape[:2], h, w, 3)


def _features(z: np.ndarray) -> np.ndarray:
    """[image, c, h, w] -> [cells, c + 1]: the channels of each cell and a constant."""
    cells = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1]).astype(np.float64)
    return np.concatenate([cells, np.ones((len(cells), 1))], axis=1)


def pictures_of(result: Any) -> list[Image.Image]:
    """PIL pictures of a pipeline's output, whatever its type; none for latents."""
    if isinstance(result, list) and result and isinstance(result[0], Image.Image):
        return list(result)
    if isinstance(result, Tensor):
        result = result.detach().float().permute(0, 2, 3, 1).cpu().numpy() if result.ndim == 4 else None
    if isinstance(result, np.ndarray) and result.ndim == 4 and result.shape[-1] == 3:
        return [Image.fromarray((np.clip(row, 0, 1) * 255).round().astype(np.uint8)) for row in result]
    return []
