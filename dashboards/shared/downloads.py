"""Beside every figure: the figure, its data, and the code that makes both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st
import xarray as xr
from matplotlib.figure import Figure

from dashboards.shared import look


@dataclass(frozen=True)
class Offer:
    """What can be taken away. `name` is the files' name and tells one offer on a page from another."""

    name: str
    code: str
    frame: Callable[[], pd.DataFrame]
    figure: Callable[[], Figure] | None = None


def offer(what: Offer) -> None:
    """One row of buttons and the code; no file is made before it is asked for."""
    files: dict[str, tuple[str, str, Callable[[], bytes]]] = {}
    if what.figure is not None:
        files["Figure (SVG)"] = ("svg", "image/svg+xml", partial(drawn, what.figure, "svg"))
        files["Figure (PNG)"] = ("png", "image/png", partial(drawn, what.figure, "png"))
    files["Data (CSV)"] = ("csv", "text/csv", partial(as_csv, what.frame))
    files["Data (Parquet)"] = ("parquet", "application/vnd.apache.parquet", partial(as_parquet, what.frame))
    with st.container(horizontal=True):
        for label, (suffix, kind, make) in files.items():
            name = f"{what.name}.{suffix}"
            st.download_button(
                label, make, name, kind, key=f"download:{name}", on_click="ignore", icon=":material/download:"
            )
    with st.expander("Python that makes this", icon=":material/code:"):
        st.code(what.code, language=None, wrap_lines=True)


def map_frame(maps: xr.DataArray) -> pd.DataFrame:
    """One row a step, word and cell: the share of the cell's attention that the word gets, 0..1."""
    return maps.rename("share").to_dataframe().reset_index().reindex(columns=["step", "word", "y", "x", "share"])


def drawn(make: Callable[[], Figure], kind: str) -> bytes:
    """The figure as a file."""
    return look.saved(make(), kind)


def as_csv(make: Callable[[], pd.DataFrame]) -> bytes:
    """The table as CSV, in UTF-8."""
    return make().to_csv(index=False).encode("utf-8")


def as_parquet(make: Callable[[], pd.DataFrame]) -> bytes:
    """The table as Parquet."""
    return make().to_parquet(index=False)
