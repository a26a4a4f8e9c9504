"""Small pictures of the predicted clean latents, one a step: fitted while recording, decoded when asked for."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from PIL import Image
from torch import Tensor

from probe.axes import CHANNEL, IMAGE, STEP, X, Y
from probe.errors import BadInput, NotRecorded
from probe.trace import Trace

QUICK = 1 << 16  # latent cells that are decoded in seconds on a CPU
BATCH = 8
AXES = (STEP, IMAGE, Y, X, "rgb")


def thumbnails(predicted: list[Tensor], final: Tensor, pictures: list[Image.Image]) -> xr.DataArray | None:
    """(step, image, y, x, rgb) uint8 at the latents' resolution, or None where there is nothing to go by.

    The colours are a least-squares fit from the last latents to the finished pictures: decoding every step can take as
    long as generating.
    """
    if final.ndim != 4 or not predicted or len(pictures) != len(final):
        return None
    return xr.DataArray(_fitted(torch.stack(predicted), final, pictures), dims=AXES, attrs={"made": "fitted"})


def decode_thumbnails(
    trace: Trace, pipe: Any, *, side: int = 256, cells: int | None = QUICK, steps: Sequence[int] | None = None
) -> Trace:
    """The trace with its thumbnails decoded by the pipeline's own autoencoder, at most `side` pixels high and wide.

    Take the pipeline that the trace was recorded with. `steps`: of these alone, and the others then have none in what
    is returned. A trace of more latent cells than `cells` (over all these steps and pictures; None: any number), or
    whose latents the autoencoder cannot take one by one, keeps what it has: the attribute `made` of the thumbnails says
    "decoded" or "fitted". Raises BadInput, NotRecorded without latents, or without those of a step.
    """
    predicted = _of_steps(trace.node("latents")["predicted"], steps)
    vae = getattr(pipe, "vae", None)
    few = cells is None or predicted.size <= cells * predicted.sizes[CHANNEL]
    if predicted.ndim != 5 or not few or not decodes(vae, predicted.sizes[CHANNEL]):
        return trace
    z = torch.from_numpy(predicted.transpose(STEP, IMAGE, CHANNEL, Y, X).values)
    small = xr.DataArray(_decoded(z, vae, side), dims=AXES, attrs={"made": "decoded"})
    nodes = {path: node.to_dataset(inherit=False) for path, node in trace.tree.subtree_with_keys}
    own = {axis: predicted[axis] for axis in (STEP, IMAGE) if axis in predicted.coords}
    nodes["thumbnails"] = xr.Dataset({"thumbnails": small}, coords=predicted[STEP].coords | own)
    return replace(trace, tree=xr.DataTree.from_dict(nodes))


def _of_steps(predicted: xr.DataArray, steps: Sequence[int] | None) -> xr.DataArray:
    """The predicted latents of some steps, in their order. Raises BadInput for none at all, NotRecorded."""
    if steps is not None and not steps:
        raise BadInput("steps is empty; name the steps to decode, or leave it out for all")
    held = predicted[STEP].values.tolist()
    absent = [step for step in steps or () if step not in held]
    if absent:
        raise NotRecorded(f"this trace holds no latents of step {absent[0]}; it has the steps {held[0]} to {held[-1]}")
    return predicted if steps is None else predicted.sel({STEP: sorted(set(steps))})


def thumbnail_bytes(shape: tuple[int, ...], steps: int) -> int:
    """Bytes of the thumbnails of a run whose latents have this shape [image, c, h, w]."""
    if len(shape) != 4:
        return 0
    images, _, h, w = shape
    return 3 * steps * images * h * w


def decodes(vae: Any, channels: int) -> bool:
    """Whether latents are what a picture's autoencoder decodes, without statistics of its own."""
    config = getattr(vae, "config", None)
    if not getattr(config, "scaling_factor", None) or getattr(config, "latents_mean", None) is not None:
        return False
    return not hasattr(vae, "bn") and channels == getattr(config, "latent_channels", None)


@torch.no_grad()
def _decoded(z: Tensor, vae: Any, side: int) -> np.ndarray:
    """[step, image, c, h, w] through the autoencoder."""
    pictures = (decoded(part, vae).float() / 2 + 0.5 for part in z.flatten(0, 1).split(BATCH))
    pixels = torch.cat([(_small(part.clamp(0, 1), side) * 255).round().byte() for part in pictures])
    return pixels.permute(0, 2, 3, 1).unflatten(0, z.shape[:2]).cpu().numpy()


def _small(pictures: Tensor, side: int) -> Tensor:
    """[n, 3, y, x], shrunk by means where they are larger than `side`."""
    share = side / max(pictures.shape[-2:])
    return pictures if share >= 1 else F.interpolate(pictures, scale_factor=share, mode="area")


def decoded(z: Tensor, vae: Any) -> Tensor:
    """Latents [n, c, h, w] as pictures [n, 3, y, x], from about -1 to 1; with a graph where there is one."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return vae.decode(z.to(home(vae), vae.dtype) / vae.config.scaling_factor + shift).sample


def home(module: Any) -> Any:
    """The device on which a module works, wherever it is kept until it is called."""
    return getattr(getattr(module, "_hf_hook", None), "execution_device", None) or next(module.parameters()).device


def _fitted(z: Tensor, final: Tensor, pictures: list[Image.Image]) -> np.ndarray:
    """[step, image, c, h, w] -> colours by a linear map from latents to the finished picture's pixels; cells that are
    not finite, as of a run in float16 that overflowed, are black and have no part in the fit.
    """
    h, w = z.shape[-2:]
    small = [np.asarray(p.convert("RGB").resize((w, h), Image.Resampling.BOX), dtype=np.float64) for p in pictures]
    features = _features(final.float().cpu().numpy())
    finite = np.isfinite(features).all(1)
    fit, *_ = np.linalg.lstsq(features[finite], np.stack(small).reshape(-1, 3)[finite], rcond=None)
    cells = _features(z.flatten(0, 1).float().cpu().numpy())
    cells[~np.isfinite(cells).all(1)] = 0
    rows = cells @ fit
    return rows.clip(0, 255).round().astype(np.uint8).reshape(*z.shape[:2], h, w, 3)


def _features(z: np.ndarray) -> np.ndarray:
    """[image, c, h, w] -> [cells, c + 1]: the channels of each cell and a constant."""
    cells = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1]).astype(np.float64)
    return np.concatenate([cells, np.ones((len(cells), 1))], axis=1)


def pictures_of(result: Any) -> list[Image.Image]:
    """PIL pictures of a pipeline's output, whatever its type, film after film; none for latents."""
    if isinstance(result, list):
        every = chain.from_iterable(row if isinstance(row, list) else [row] for row in result)
        return [each for each in every if isinstance(each, Image.Image)]
    if isinstance(result, Tensor | np.ndarray) and result.ndim == 5:
        result = result.reshape(-1, *result.shape[2:])
    if isinstance(result, Tensor):
        result = result.detach().float().permute(0, 2, 3, 1).cpu().numpy() if result.ndim == 4 else None
    if isinstance(result, np.ndarray) and result.ndim == 4 and result.shape[-1] == 3:
        return [Image.fromarray((np.clip(row, 0, 1) * 255).round().astype(np.uint8)) for row in result]
    return []
