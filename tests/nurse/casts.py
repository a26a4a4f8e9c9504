"""Hand-made traces for a diagnosis: any prompt, any map for each of its words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from probe.axes import READING, SPECIAL
from probe.trace import Trace
from probe.words import Word
from probe.words.segment import labels, segment
from tests.factories import make_trace

SIDE = 16


def spot(row: int, column: int, height: float = 0.5) -> np.ndarray:
    """[y, x]: one cell that looks at the word with `height`, all others hardly."""
    plane = np.full((SIDE, SIDE), 0.001)
    plane[row, column] = height
    return plane


def trace_of(prompt: str, maps: Mapping[str, Sequence[np.ndarray]], special: Sequence[str] = SPECIAL) -> Trace:
    """A trace of a prompt in which each recorded word has these maps [y, x], one a step.

    Of the rest, nine tenths go to the start token and one tenth to the end and the padding, as far as `special`.
    """
    steps = len(next(iter(maps.values())))
    base = make_trace(steps=steps, grids=((SIDE, SIDE),))
    planes = {word: np.stack(list(rows)) for word, rows in maps.items()}  # [step, y, x]
    rest = 1 - sum(planes.values())
    shares = {"<start>": 0.9 * rest, "<end>": 0.05 * rest, "<padding>": 0.05 * rest}
    planes |= {name: shares[name] for name in special}
    values = np.stack([*planes.values()])[:, :, None, None]  # [word, step, 1, 1, y, x]
    paths = [site.path for site in base.sites]
    values = np.stack([values] * len(paths)).transpose(0, 2, 3, 4, 1, 5, 6).astype(np.float32)
    coords = {"site": paths, "step": np.arange(steps), "branch": ["cond"], "image": [0], "word": [*planes]}
    node = xr.Dataset({"attention": (READING, values), "timestep": ("step", np.arange(steps))}, coords=coords)
    tree = xr.DataTree.from_dict({f"/attention/{SIDE}x{SIDE}": node})
    run = base.run.model_copy(update={"prompts": (prompt,), "steps": steps})
    return replace(base, run=run, words=words_of(prompt), tree=tree)


def words_of(prompt: str) -> tuple[Word, ...]:
    spans = segment(prompt)
    texts = [prompt[slice(*span)] for span in spans]
    rows = enumerate(zip(labels(texts), texts, spans, strict=True), start=1)
    return tuple(
        Word(label=label, text=text, start=span.start, end=span.end, tokens={"text_encoder": (i,)}, content=True)
        for i, (label, text, span) in rows
    )
