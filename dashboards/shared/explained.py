"""Maps by every method that a trace was recorded for; computed once, and shown with what each cannot tell."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from dashboards.shared.opened import Opened, View, named, planes
from dashboards.shared.viewer import Shown, describe, viewer
from probe.errors import BadInput, NotRecorded
from probe.explain import METHODS, Method, by
from probe.heatmap import Heatmap
from probe.readings import resize
from probe.show.pictures import final_picture

ATTENTION = "attention"


@st.cache_resource(max_entries=64, show_spinner="Computing maps …", hash_funcs={Opened: hash})
def maps_by(held: Opened, name: str, image: int, step: int | None) -> dict[str, Heatmap]:
    """The map of each word that a method has one of, at a step or over all of its own. Raises BadInput, NotRecorded."""
    explain, found = by(name).explain, {}
    for word in named(held.trace, image):
        try:
            found[word] = explain(held.trace, word, image=image, steps=step)
        except BadInput:  # this method has no such word
            continue
    return found


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs={Opened: hash})
def held_methods(held: Opened, image: int) -> list[str]:
    """The methods of words that this trace was recorded for."""
    found = []
    for method in METHODS:
        try:
            found += [method.name] if not method.whole and maps_by(held, method.name, image, None) else []
        except NotRecorded:
            continue
    return found


def switch(held: Opened, image: int) -> tuple[str, str | None]:
    """The method to look by, and a second one beside it if one is chosen."""
    known = held_methods(held, image) or [ATTENTION]
    left, right = st.columns(2)
    first = left.selectbox(
        "Method", known, format_func=title, key=f"method:{held.name}", help="How a word's map is found."
    )
    second = right.selectbox(
        "Beside it",
        [name for name in known if name != first],
        None,
        key=f"beside:{held.name}",
        format_func=title,
        placeholder="nothing",
        disabled=len(known) == 1,
        help="A second method, to see where the two differ.",
    )
    return first, second


def title(name: str) -> str:
    """A method's name as people read it."""
    return by(name).title


def look_by(held: Opened, view: View, name: str, chosen: str, *, follows: bool = False) -> str:
    """The viewer for one method; returns the word that is kept by a click. `follows`: it shows the given word."""
    method = by(name)
    found = planes(held, view) if name == ATTENTION else stacked(held, view, name)
    shown = Shown(final_picture(held.trace, view.image), view.image, view.shared, f"{held.name}/{view.image}/{name}")
    data = describe(held.trace, found, shown) | {"follows": follows}
    word = viewer(f"viewer:{held.name}:{name}:{follows}", data, chosen)
    st.markdown(f"**{method.title.capitalize()}** {method.shows}. It {method.cannot}.")
    return word


def stacked(held: Opened, view: View, name: str) -> xr.DataArray:
    """(word, y, x) of one method, on its finest grid; of its own steps where it did not look at the one asked for."""
    try:
        found = maps_by(held, name, view.image, view.step)
    except NotRecorded:
        found = maps_by(held, name, view.image, None)
        st.info(
            f"{title(name)} did not look at step {view.step}; this is the mean over its steps.", icon=":material/info:"
        )
    return together(list(found.values()), list(found))


def together(found: Sequence[Heatmap], words: Sequence[str]) -> xr.DataArray:
    """(word, y, x) of several maps, on the finest of their grids."""
    shape = max((heatmap.values.shape for heatmap in found), key=lambda each: each[0] * each[1])
    values = np.stack([resize(heatmap.values.values.astype(np.float32), shape) for heatmap in found])
    return xr.DataArray(values, {"word": list(words)}, ("word", "y", "x"), attrs={"units": found[0].units})


def all_maps(held: Opened, image: int, words: Sequence[str]) -> list[Heatmap]:
    """The maps of some words by every method that the trace holds."""
    every = [maps_by(held, name, image, None) for name in held_methods(held, image)]
    return [found[word] for found in every for word in words if word in found]


def method_frame(found: Sequence[Heatmap]) -> pd.DataFrame:
    """One row a method, word and cell."""
    parts = [each.values.rename("value").to_dataframe().reset_index() for each in found]
    named_parts = [part.assign(method=each.method, word=each.subject) for part, each in zip(parts, found, strict=True)]
    return pd.concat(named_parts).reindex(columns=["method", "word", "y", "x", "value"])


def missing(held: Opened, image: int) -> list[Method]:
    """The methods that this trace was not recorded for."""
    there = held_methods(held, image)
    return [method for method in METHODS if method.name not in there and not method.whole]
