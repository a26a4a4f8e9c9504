"""How far two maps are apart. Maps are [..., y, x] on one grid, not negative; results are [...].

None says why maps differ, nor whether the picture does: cells may look elsewhere and draw the same.
"""

import numpy as np
from scipy.special import rel_entr

FLAT = 1e-6  # standard deviation over mean below which a map is flat: float32's own noise


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's over the cells, -1..1; NaN where one of the maps is flat. It does not see amounts, only shapes."""
    da, db = (x - x.mean((-2, -1), keepdims=True) for x in (a, b))
    size = np.sqrt((da**2).sum((-2, -1)) * (db**2).sum((-2, -1)))
    known = ~(flat(a) | flat(b))
    return np.divide((da * db).sum((-2, -1)), size, out=np.full(size.shape, np.nan), where=known)


def divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Jensen-Shannon's divergence of the maps brought to a sum of 1, in bits: 0 alike, 1 without a common cell.

    Lin, "Divergence measures based on the Shannon entropy" (1991). NaN for a map of zeros.
    """
    p, q = distribution(a), distribution(b)
    m = (p + q) / 2
    return (rel_entr(p, m) + rel_entr(q, m)).sum((-2, -1)) / (2 * np.log(2))


def centre(a: np.ndarray) -> np.ndarray:
    """[..., (y, x)]: the centre of mass in cells, from the top left corner. NaN for a map of zeros.

    Of a word that all cells attend to a little it lies near the middle, so it shifts less than what is seen moves.
    """
    p = distribution(a)
    rows, columns = (np.arange(length) + 0.5 for length in a.shape[-2:])
    return np.stack([(p.sum(-1) * rows).sum(-1), (p.sum(-2) * columns).sum(-1)], axis=-1)


def distribution(a: np.ndarray) -> np.ndarray:
    """The map brought to a sum of 1."""
    total = a.sum((-2, -1), keepdims=True)
    return np.divide(a, total, out=np.full(a.shape, np.nan), where=total > 0)


def flat(a: np.ndarray) -> np.ndarray:
    """Whether all cells are alike."""
    return a.std((-2, -1)) <= FLAT * np.abs(a.mean((-2, -1)))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[step, ...] -> [step]: 1 the same way, 0 at right angles; NaN for a vector of zeros."""
    u, v = (x.reshape(len(x), -1) for x in (a, b))
    size = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    return np.divide((u * v).sum(1), size, out=np.full(len(u), np.nan), where=size > 0)


def rms(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[step, ...] -> [step]: root mean square difference."""
    return np.sqrt(np.mean((a - b).reshape(len(a), -1) ** 2, axis=1))
