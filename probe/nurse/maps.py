"""Formulas on maps of words that the losses share, in the papers' letters."""

import torch
import torch.nn.functional as F
from torch import Tensor

SHARPNESS = 100.0


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


def sharpen(A: Tensor, end: int | None = None) -> Tensor:
    """[y, x, token] -> [y, x, token - 1]: softmax of 100 A over the tokens at each cell, without the start token.

    `end` None drops the last position too, as the released code does for SD 1.x; a position drops the end token and
    all padding, as it does for SD 2.x.
    """
    return torch.softmax(SHARPNESS * A[..., 1 : (end if end is not None else -1)], dim=-1)
