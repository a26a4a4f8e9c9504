"""The viewer: the prompt's words, the picture and their maps, two ways: word to region, cell to words.

A component of our own: a plain ES module with nothing from elsewhere. What it shows is given as data and set as text.
"""

import base64
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image
from streamlit.components.v2 import component

from probe.axes import SPECIAL
from probe.readings import UNITS
from probe.show import style
from probe.show.facts import pieces, region
from probe.show.pack import pack_picture
from probe.trace import Trace

HERE = Path(__file__).parent
_mount = component(
    "probe_viewer",
    html=(HERE / "viewer.html").read_text(encoding="utf-8"),
    css=(HERE / "viewer.css").read_text(encoding="utf-8"),
    js=(HERE / "viewer.js").read_text(encoding="utf-8"),
)


def viewer(key: str, data: dict[str, Any], chosen: str) -> str:
    """Show what `describe` made and return the label of the word that is kept by a click, or ""."""
    state = _mount(key=key, data=data | {"chosen": chosen}, default={"word": chosen}, on_word_change=lambda: None)
    return state.word or ""


@dataclass(frozen=True)
class Shown:
    """A picture and how its maps are shown. `shared`: all words on one scale; `name` tells one picture from another."""

    picture: Image.Image
    image: int
    shared: bool
    name: str


def describe(trace: Trace, planes: xr.DataArray, shown: Shown) -> dict[str, Any]:
    """The viewer's data: maps (word, y, x). Without `units` they are shares of a cell's attention."""
    values = np.nan_to_num(planes.values.astype("<f4"))
    labels = [str(label) for label in planes["word"].values]
    prompt = trace.run.prompt_of(shown.image)
    scale = _scale(labels, values) if shown.shared else None
    return {
        "trace": shown.name,
        "alt": f"Picture for the prompt: {prompt}",
        "picture": pack_picture(shown.picture),
        "pieces": [asdict(piece) for piece in pieces(prompt, trace.words_of(shown.image), labels)],
        "words": [_word(label, plane, scale) for label, plane in zip(labels, values, strict=True)],
        "maps": base64.b64encode(values.tobytes()).decode("ascii"),
        "grid": list(values.shape[1:]),
        "colours": style.colour_table(),
        "units": None if planes.attrs.get("units", UNITS) == UNITS else planes.attrs["units"],
        "follows": False,
    }


def _scale(labels: list[str], values: np.ndarray) -> tuple[float, float]:
    """The least and the largest value of all words; of special tokens only if there is nothing else."""
    own = values[[label not in SPECIAL for label in labels]]
    chosen = own if len(own) else values
    return float(chosen.min()), float(chosen.max())


def _word(label: str, plane: np.ndarray, scale: tuple[float, float] | None) -> dict[str, Any]:
    own = float(plane.min()), float(plane.max())
    low, high = own if scale is None or label in SPECIAL else scale
    facts = {"label": label, "where": region(plane), "mean": float(plane.mean()), "special": label in SPECIAL}
    return facts | {"low": low, "high": high}
