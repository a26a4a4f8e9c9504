"""Formulas on maps of words that the losses share, in the papers' letters."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.intervention import Maps

SHARPNESS = 100.0
TINY = 1e-12


def kernel(sigma: float = 0.5, side: int = 3) -> Tensor:
    """The smoothing kernel of the released Attend-and-Excite code: exp(-(d / (2 sigma))^2), normalised.

    It is a Gaussian of standard deviation sqrt(2) sigma, wider than the sigma that the paper names:
    centre 0.3319, edge 0.1221, corner 0.0449 for sigma 0.5.
    """
    d = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    g = torch.exp(-((d / (2 * sigma)) ** 2))
    return (g[:, None] * g / (g.sum() ** 2)).float()


def smooth(plane: Tensor, sigma: float = 0.5) -> Tensor:
    """[..., y, x] -> the same, convolved with `kernel` after reflecting one cell at the border."""
    flat = plane.reshape(-1, 1, *plane.shape[-2:])
    weights = kernel(sigma).to(plane)[None, None]
    return F.conv2d(F.pad(flat, (1, 1, 1, 1), mode="reflect"), weights).reshape(plane.shape)


def sharpen(A: Tensor, end: int | None = None, *, first: int = 1) -> Tensor:
    """[y, x, token] -> [y, x, token - first]: softmax of 100 A over the tokens at each cell, without the start token.

    `end` None drops the last position too, as the released code does for SD 1.x; a position drops the end token and
    all padding, as it does for SD 2.x.
    """
    return torch.softmax(SHARPNESS * A[..., first : (end if end is not None else -1)], dim=-1)


def sharp_planes(maps: Maps, names: Iterable[str], *, normalise_end: bool = False) -> dict[str, Tensor]:
    """[y, x] each: the sharpened map of each word; of several pieces the last stands for it."""
    sharp = sharpen(maps.A, maps.end if normalise_end else None, first=maps.first)
    return {name: sharp[..., maps.positions[name][-1] - maps.first] for name in names}


def word_plane(maps: Maps, name: str) -> Tensor:
    """[y, x]: a word's map; of several pieces the largest at each cell."""
    return maps.A[..., list(maps.positions[name])].amax(-1)


def distribution(plane: Tensor) -> Tensor:
    """[y, x] -> [cell], with sum 1."""
    flat = plane.flatten()
    return flat / flat.sum().clamp(min=TINY)


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """D(p, q) = 1/2 [KL(p || q) + KL(q || p)]."""
    p, q = p.clamp(min=TINY), q.clamp(min=TINY)
    return ((p - q) * (p.log() - q.log())).sum() / 2


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """JSD(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m), m the mean of both."""
    p, q = p.clamp(min=TINY), q.clamp(min=TINY)
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


def total_variation(plane: Tensor) -> Tensor:
    """TV = mean |d/dx A| + mean |d/dy A| between neighbouring cells."""
    return plane.diff(dim=-1).abs().mean() + plane.diff(dim=-2).abs().mean()


def overlap(p: Tensor, q: Tensor) -> Tensor:
    """sum min(p, q) / sum (p + q): 0.5 for equal maps, 0 for disjoint ones."""
    return torch.minimum(p, q).sum() / (p + q).sum().clamp(min=TINY)
