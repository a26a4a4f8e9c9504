"""A coarse map brought to the edges of a picture: He, Sun and Tang's guided filter, "Guided Image Filtering" (2010).

In each window the map is taken for a linear function of the picture's colours, q = a g + b, so it may change where the
colours do. It says nothing that the map did not: what has one colour gets one value, whatever it belongs to.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter1d

from probe.readings import resize

SIDE = 128  # pixels of the longer side at most: as fine as a map is made
REACH = 2  # cells of the map on each side of a pixel that its window holds
EPSILON = 1e-3  # of the variance of colours in 0..1: what is flatter than this is smoothed over


def to_edges(p: np.ndarray, picture: Image.Image) -> np.ndarray:
    """The map [y, x] on the pixels of a picture of at most SIDE, in its own range; as it is if they are no finer."""
    scale = min(1.0, SIDE / max(picture.size))
    width, height = (max(1, round(length * scale)) for length in picture.size)
    if height <= p.shape[0] or width <= p.shape[1]:
        return p
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    r = (REACH * height // p.shape[0], REACH * width // p.shape[1])
    q = guided(np.asarray(small, dtype=np.float64) / 255, resize(p, (height, width)).astype(np.float64), r)
    return q.clip(p.min(), p.max())


def guided(g: np.ndarray, p: np.ndarray, r: tuple[int, int], epsilon: float = EPSILON) -> np.ndarray:
    """q [y, x] of a guide g [y, x, colour], the paper's I, and an input p [y, x].

    Windows reach r pixels down and across; beyond the border its last pixel is repeated.

    a = (S + epsilon U)^-1 (mean(g p) - mean(g) mean(p)), b = mean(p) - a . mean(g), q = mean(a) . g + mean(b), where S
    is the covariance of the colours in a window and means are over windows.
    """
    mean_g, mean_p = _mean(g, r), _mean(p, r)
    together = _mean(g * p[..., None], r) - mean_g * mean_p[..., None]
    S = _mean(g[..., :, None] * g[..., None, :], r) - mean_g[..., :, None] * mean_g[..., None, :]
    a = np.linalg.solve(S + epsilon * np.eye(g.shape[-1]), together[..., None])[..., 0]
    b = mean_p - (a * mean_g).sum(-1)
    return (_mean(a, r) * g).sum(-1) + _mean(b, r)


def _mean(x: np.ndarray, r: tuple[int, int]) -> np.ndarray:
    """The mean over the window of each pixel of [y, x, ...]."""
    for axis, reach in enumerate(r):
        x = uniform_filter1d(x, 2 * reach + 1, axis=axis, mode="nearest")
    return x
