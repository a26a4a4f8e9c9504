"""The guided filter against its definition, window by window, and what must hold of every map brought to edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from probe.explain.edges import SIDE, guided, to_edges
from probe.readings import resize

RNG = np.random.default_rng(0)


def by_definition(g: np.ndarray, p: np.ndarray, r: tuple[int, int], epsilon: float) -> np.ndarray:
    """He et al. (2010), equations 14 to 16, with a loop over windows; the border is repeated before means are taken."""
    height, width = p.shape

    def window(x: np.ndarray, i: int, j: int) -> np.ndarray:
        rows = np.arange(i - r[0], i + r[0] + 1).clip(0, height - 1)
        columns = np.arange(j - r[1], j + r[1] + 1).clip(0, width - 1)
        return x[np.ix_(rows, columns)].reshape(-1, *x.shape[2:])

    a, b = np.zeros_like(g), np.zeros_like(p)
    for i, j in np.ndindex(height, width):
        colours, values = window(g, i, j), window(p, i, j)
        S = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
        a[i, j] = np.linalg.inv(S) @ ((colours * values[:, None]).mean(0) - colours.mean(0) * values.mean())
        b[i, j] = values.mean() - a[i, j] @ colours.mean(0)
    mean_a = np.stack([window(a, i, j).mean(0) for i, j in np.ndindex(height, width)]).reshape(g.shape)
    mean_b = np.stack([window(b, i, j).mean() for i, j in np.ndindex(height, width)]).reshape(p.shape)
    return (mean_a * g).sum(-1) + mean_b


def test_it_is_the_papers():
    g, p = RNG.random((9, 7, 3)), RNG.random((9, 7))
    np.testing.assert_allclose(guided(g, p, (2, 1), 0.01), by_definition(g, p, (2, 1), 0.01), atol=1e-10)


def test_what_is_linear_in_the_colours_stays():
    g = RNG.random((12, 12, 3))
    p = g @ [0.2, -0.5, 0.9] + 0.3
    np.testing.assert_allclose(guided(g, p, (3, 3), 1e-12), p, atol=1e-6)


def halves(width: int, height: int) -> Image.Image:
    """A red and a blue half."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def test_a_coarse_step_is_moved_to_the_edge_of_the_picture():
    p = np.repeat([[1.0, 0.6, 0.1, 0.0]], 4, axis=0)
    found = to_edges(p, halves(64, 64))
    assert found.shape == (64, 64)
    gap = found[:, 31] - found[:, 32]
    blurred = resize(p.astype(np.float32), (64, 64))
    assert (gap > 0.5).all() and (gap > 10 * (blurred[:, 31] - blurred[:, 32])).all()
    assert np.ptp(found[:, :20]) < np.ptp(blurred[:, :20])


def test_a_picture_of_one_colour_has_no_edges():
    p = RNG.random((4, 4))
    found = to_edges(p, Image.new("RGB", (32, 32), "gray"))
    assert np.abs(np.diff(found, axis=0)).max() < np.ptp(p) / 8


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 300), st.integers(1, 300))
def test_the_range_is_kept_and_the_grid_is_of_at_most_so_many_pixels(y: int, x: int, width: int, height: int):
    p = np.random.default_rng(y * x).random((y, x))
    found = to_edges(p, halves(width, height))
    assert p.min() <= found.min() and found.max() <= p.max()
    assert max(found.shape) <= SIDE or found.shape == p.shape
    assert found.shape[0] >= min(y, height) and found.shape[1] >= min(x, width)


@pytest.mark.parametrize("size", [(4, 4), (3, 90)])
def test_no_finer_picture_leaves_the_map(size: tuple[int, int]):
    p = RNG.random((4, 4))
    assert to_edges(p, halves(*size)) is p
