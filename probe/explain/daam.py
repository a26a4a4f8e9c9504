"""DAAM's map of a word, by the formula of its release 0.2.0, so that a figure made with it can be made again.

M[w] = mean over layers and heads of max(0, B(sum over steps of A[., w])), and the mean over the word's tokens, where A
is the conditional attention and B the bicubic interpolation (Keys, a = -0.75) onto a grid of `side` cells. The layers
are the cross-attention of the down and up blocks; maps eight times coarser than the grid are left out.
Beyond it: any shape of picture, guidance on or off, any picture of a batch, chosen steps. Like all attention, it shows
where the model looked and not what the word caused; and its sum counts layers with many heads, and long runs, more.
Reference: Tang et al., "What the DAAM" (2023).
"""

from collections.abc import Sequence
from math import isqrt, prod

import numpy as np
import xarray as xr

from probe.errors import NoMatch, NoSuchWord
from probe.heatmap import Heatmap
from probe.readings import Choice, Steps, chosen_sites, of_frame, picked
from probe.site import Site
from probe.trace import Trace

UNITS = "share of a cell's attention, summed over steps"
ROOMS = ("down_blocks", "up_blocks")
SKIPPED = 8  # so many times coarser than the grid
A = -0.75  # of Keys' kernel, as torch has it


def daam(
    trace: Trace,
    word: str,
    *,
    steps: Steps = None,
    image: int = 0,
    frame: int | None = None,
    side: int = 64,
) -> Heatmap:
    """DAAM's map of a word; of a repeated word all occurrences together, unless one is named ("cat#2").

    `side`: cells along the longer side of the picture (DAAM: 64 for models of 512 and 1024 pixels, else 96).
    `frame` as in `attention`.
    Exact for words of one token in a trace with heads (`probe.record(pipe, heads="all")`). Without them zero
    is clamped to after the mean over heads, and of several tokens after their sum: then `provenance["exact"]` is False.
    Raises NoSuchWord, NoMatch (no such blocks, or none fine enough) or NotRecorded.
    """
    labels = _occurrences(trace, word, image)
    shape = tuple(round(side * length / max(trace.run.height, trace.run.width)) for length in _size(trace))
    sites = [site for site in chosen_sites(trace, ROOMS) if isqrt(prod(shape) // prod(site.grid)) != SKIPPED]
    if not sites:
        raise NoMatch(
            f"all sites of {ROOMS} are {SKIPPED} times coarser than {shape[0]} x {shape[1]} cells; change side"
        )
    chosen, found = _summed(trace, sites, labels, Choice(steps=steps, image=image, frame=frame))
    sums = [found[site.path] for site in sites]
    planes = [bicubic(maps, shape).clip(min=0).sum(1).mean(0) for maps in sums]
    tokens = [token for token in trace.tokens_of(image) if {token.word, token.special} & set(labels)]
    if not tokens:
        raise NoSuchWord(
            f"{word!r} is not a word of the prompt, and DAAM has maps of words only; there are: {_words(trace, image)}"
        )
    count = sum(token.encoder == tokens[0].encoder for token in tokens)
    field = np.average(planes, axis=0, weights=[site.heads for site in sites]) / count
    provenance = {
        "prompt": trace.run.prompt_of(image),
        "model": trace.run.model,
        "seed": trace.run.seed,
        "sites": [site.path for site in sites],
        "steps": chosen,
        "image": image,
        **({} if frame is None else {"frame": frame}),
        "exact": count == len(labels) and all(len(maps) == site.heads for maps, site in zip(sums, sites, strict=True)),
    }
    return Heatmap(xr.DataArray(field.astype(np.float32), dims=("y", "x")), trace.word(word), "daam", UNITS, provenance)


def _words(trace: Trace, image: int) -> str:
    return ", ".join(word.label for word in trace.words_of(image) if word.content)


def _size(trace: Trace) -> tuple[int, int]:
    return trace.run.height, trace.run.width


def _occurrences(trace: Trace, word: str, image: int) -> list[str]:
    """The labels of a word wherever it stands in the prompt; of one that is named with its number, that one."""
    label = trace.word(word)
    own = trace.words_of(image)
    text = next((w.text.casefold() for w in own if w.label == label and "#" not in word), None)
    every = [w.label for w in own if w.text.casefold() == text]
    return [trace.word(found) for found in every] or [label]


def _summed(
    trace: Trace, sites: Sequence[Site], labels: Sequence[str], choice: Choice
) -> tuple[list[int], dict[str, np.ndarray]]:
    """The steps, and for each site [head, word, y, x] float64: the sum over them of its heads' attention, or of their
    mean if it has no more.
    """
    heads = {site.path: site.heads for site in sites}
    steps: list[int] = []
    found: dict[str, np.ndarray] = {}
    for node in (*trace.attention_nodes(), *trace.attention_nodes("heads")):
        if heads.keys().isdisjoint(node["site"].values.tolist()):
            continue
        part = picked(node, heads, labels, choice, trace)
        array = part["attention"].astype(np.float64) * part.get("steps", 1)  # a mean of several steps counts for each
        total = of_frame(array.sum("step", skipna=False), choice.frame)
        total = total if "head" in total.dims else total.expand_dims("head")
        steps = part["step"].values.tolist()
        for path, one in zip(
            part["site"].values.tolist(), total.transpose("site", "head", "word", "y", "x"), strict=True
        ):
            own = one.dropna("head", how="all").values
            if path not in found or len(own) == heads[path]:
                found[path] = own
    return steps, found


def bicubic(planes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Maps [..., y, x] on another grid (height, width), as torch interpolates: Keys' kernel, edges repeated."""
    rows, columns = (_weights(old, new) for old, new in zip(planes.shape[-2:], shape, strict=True))
    return rows @ planes @ columns.T  # [new y, y] [..., y, x] [x, new x]


def _weights(old: int, new: int) -> np.ndarray:
    """[new, old]: how much each old cell counts for each new one; pixel centres at halves."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(at).astype(int)[:, None] + np.arange(-1, 3)  # [new, 4]
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new)[:, None], taps.clip(0, old - 1)), keys(at[:, None] - taps))
    return weights


def keys(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel of a distance in cells."""
    d = np.abs(distance)
    near = (A + 2) * d**3 - (A + 3) * d**2 + 1
    far = A * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
