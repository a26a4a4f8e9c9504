"""What a trace tells in tables, by word, by layer and by pair of words; and the lens on its text encoder."""

from functools import partial

import pandas as pd
import streamlit as st
import xarray as xr

from dashboards.shared import code, look
from dashboards.shared.downloads import Offer, offer
from dashboards.shared.opened import Opened
from probe import show
from probe.explain.tables import TABLES, table, tables


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs={Opened: hash})
def held_tables(held: Opened, image: int) -> dict[str, xr.DataArray]:
    """The tables that this trace was recorded for."""
    return tables(held.trace, image=image)


def page(held: Opened, image: int) -> None:
    """One table that is chosen, the lens, and how to record what is missing."""
    found = held_tables(held, image)
    if found:
        names = {table(name).title: name for name in found}
        _table(held, image, names[st.selectbox("Table", list(names), key=f"table:{held.name}")])
    if show.lens_pictures(held.trace):
        st.subheader("When the text encoder ends early", anchor=False)
        alt = "Pictures by the number of layers of the text encoder that read the prompt"
        look.figure(partial(show.lens_figure, held.trace), alt, ("lens", held.name, held.stamp))
        st.markdown("Where a thing first appears, that layer has formed it. An empty picture proves nothing.")
    absent = {each.title: each.ask for each in TABLES if each.name not in found}
    if not show.lens_pictures(held.trace):
        absent["When the text encoder ends early"] = "probe.with_lens(trace, probe.lens(pipe, prompt))"
    if absent:
        st.markdown("What this trace was not recorded for, and how to record it:")
        st.code("\n".join(f"{title}\n    {ask}" for title, ask in absent.items()), language=None, wrap_lines=True)


def _table(held: Opened, image: int, name: str) -> None:
    about, array = table(name), held_tables(held, image)[name]
    draw = partial(show.table_figure, array, about.title)
    look.figure(draw, f"Table: {about.title}", ("table", name, image, held.name, held.stamp))
    st.markdown(f"It {about.shows}. It {about.cannot}.")
    offer(Offer(name, code.table_code(held, name, image), partial(table_frame, array), draw))


def table_frame(array: xr.DataArray) -> pd.DataFrame:
    """One row an entry."""
    return array.rename("value").to_dataframe().reset_index()
