"""From a region of the picture to its words: which word do these cells rest on, and how sure is the order?

Shares are among the content words that were recorded; a word that is strong everywhere is strong here too, so `lift`
says how much more it is than elsewhere. The intervals come from drawing the region's cells and the steps again
(Efron's bootstrap, each axis on its own). They say how much the order depends on these cells and steps, and nothing
about another seed or whether the method is right; neighbouring cells are alike, so they are too narrow, not too wide.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from probe.errors import BadInput
from probe.explain.methods import METHODS, by
from probe.explain.relevancy import relevancy_maps
from probe.heatmap import Heatmap
from probe.readings import Choice, Steps, content_words, word_maps
from probe.trace import Trace

DRAWS = 1000
INTERVAL = (0.05, 0.95)
CELLS = 64  # of the longer side at most


def words_of_region(
    trace: Trace,
    region: Sequence[float],
    *,
    method: str = "attention",
    steps: Steps = None,
    image: int = 0,
    frame: int | None = None,
) -> pd.DataFrame:
    """The words of a region, most important first; one row a word.

    `region`: a cell (y, x), or a box (left, top, right, bottom), as shares of the picture. `method`: any explainer of
    words. Of attention and relevancy cells and steps are drawn again; of the others, which give one map over all steps,
    cells alone, and what speaks against a word is cut at zero. Columns: `share` of the word among all words there (they
    sum to 1), `low` and `high` (90 % interval of the share), `first` (how often it leads when drawn again), `lift`
    (mean in the region over mean in the picture). `frame` as in `attention`.
    Raises BadInput for a region without a cell, and what the method raises.
    """
    if method not in readers():
        raise BadInput(f"method={method!r} reads no region; there are: {', '.join(readers())}")
    choice = Choice(steps=steps, image=image, frame=frame)
    maps = (MAPS[method] if method in MAPS else _explained(method))(trace, choice)
    maps = maps.transpose("step", "word", "y", "x")
    y, x = _cells(region, maps.sizes["y"], maps.sizes["x"])
    inside = maps[..., y, x].stack(cell=("y", "x")).transpose("step", "cell", "word").values.astype(np.float64)
    drawn = _shares(_drawn(inside))
    low, high = np.quantile(drawn, INTERVAL, axis=0)
    here, everywhere = inside.mean((0, 1)), maps.mean(("step", "y", "x")).values
    columns = {
        "share": _shares(here),
        "low": low,
        "high": high,
        "first": np.bincount(drawn.argmax(1), minlength=len(here)) / len(drawn),
        "lift": np.divide(here, everywhere, out=np.zeros_like(here), where=everywhere > 0),
    }
    index = pd.Index([str(word) for word in maps["word"].values], name="word")
    return pd.DataFrame(columns, index=index).sort_values("share", ascending=False, kind="stable")


def readers() -> tuple[str, ...]:
    """The methods that read a region: those that tell words apart."""
    return tuple(method.name for method in METHODS if not method.whole)


def _attention(trace: Trace, choice: Choice) -> xr.DataArray:
    return word_maps(trace, content_words(trace, choice.image), choice)


def _relevancy(trace: Trace, choice: Choice) -> xr.DataArray:
    return relevancy_maps(trace, steps=choice.steps, image=choice.image, frame=choice.frame)


Maps = Callable[[Trace, Choice], xr.DataArray]
MAPS: dict[str, Maps] = {"attention": _attention, "relevancy": _relevancy}


def _explained(method: str) -> Maps:
    """(step, word, y, x) of any other method: one map a word, what is negative cut at zero."""

    def maps(trace: Trace, choice: Choice) -> xr.DataArray:
        words = content_words(trace, choice.image)
        given = {"steps": choice.steps, "image": choice.image, "frame": choice.frame}
        heatmaps = [by(method).explain(trace, word, **given) for word in words]
        found = np.stack([_of_cells(each) for each in heatmaps])[None].clip(min=0)  # [step, word, y, x]
        return xr.DataArray(found, dims=("step", "word", "y", "x"), coords={"word": list(words)})

    return maps


def _of_cells(heatmap: Heatmap) -> np.ndarray:
    """[y, x] on a grid no finer than CELLS: pixels of a map that follows edges are not drawn one by one."""
    height, width = heatmap.values.shape
    scale = CELLS / max(height, width)
    if scale >= 1:
        return heatmap.values.values
    return heatmap.resize(max(1, round(scale * height)), max(1, round(scale * width))).values.values


def _cells(region: Sequence[float], height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the cells whose middle lies in a box; of a point, those of its cell."""
    if len(region) not in (2, 4) or not all(0 <= side <= 1 for side in region):
        raise BadInput(
            f"region={tuple(region)} is neither a cell (y, x) nor a box (left, top, right, bottom), all as shares "
            "of the picture, from 0 to 1"
        )
    if len(region) == 2:
        row, column = min(int(region[0] * height), height - 1), min(int(region[1] * width), width - 1)
        return slice(row, row + 1), slice(column, column + 1)
    left, top, right, bottom = region
    y, x = (slice(round(a * n), round(b * n)) for a, b, n in ((top, bottom, height), (left, right, width)))
    if y.start >= y.stop or x.start >= x.stop:
        raise BadInput(f"the region {tuple(region)} holds no cell of {height} x {width}; make it larger")
    return y, x


def _drawn(values: np.ndarray) -> np.ndarray:
    """[draw, word]: means of [step, cell, word] over steps and cells drawn again with replacement."""
    rng = np.random.default_rng(0)
    steps, cells, _ = values.shape
    w_step = rng.multinomial(steps, np.full(steps, 1 / steps), DRAWS) / steps
    w_cell = rng.multinomial(cells, np.full(cells, 1 / cells), DRAWS) / cells
    over_steps = (w_step @ values.reshape(steps, -1)).reshape(DRAWS, cells, -1)
    return np.einsum("dc,dcw->dw", w_cell, over_steps)


def _shares(values: np.ndarray) -> np.ndarray:
    """[..., word] as shares that sum to 1; alike where there is nothing."""
    total = values.sum(-1, keepdims=True)
    return np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[-1])
