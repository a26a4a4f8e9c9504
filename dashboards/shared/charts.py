"""Curves over the steps, with raw numbers under the pointer."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
import xarray as xr

from probe.show import style
from probe.show.comparison import Panel
from probe.show.curves import COSINES
from probe.show.nursing import LOSS, iterations, nursed
from probe.trace import Trace

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
STEP = "denoising step"
NAMED = ("first", "second", "third", "accent")
DARK_SERIES = (*(style.DARK[name] for name in NAMED), "#b4b4b4", "#dcc067", "#86cfdc", "#e3a1b8")


def word_frame(maps: xr.DataArray, words: Sequence[str]) -> pd.DataFrame:
    """One row a step and word: its share of the attention, mean over the cells and in the strongest cell."""
    chosen = maps.sel(word=list(words))
    mean, most = (each.values for each in (chosen.mean(("y", "x")), chosen.max(("y", "x"))))
    steps = chosen["step"].values.tolist()
    rows = [(step, word, mean[i, j], most[i, j]) for i, step in enumerate(steps) for j, word in enumerate(words)]
    return pd.DataFrame(rows, columns=["step", "word", "mean", "strongest cell"])


def word_chart(frame: pd.DataFrame, column: str, mark: int | None) -> alt.LayerChart:
    """One line a word; `mark` is a step to point out."""
    return _lines(frame, "word", alt.Y(column, title="share of attention", axis=alt.Axis(format=".3~%")), mark)


def guidance_frame(trace: Trace, image: int) -> pd.DataFrame:
    """One row a step: the norm of the difference that guidance adds, and its cosines. Raises NotRecorded."""
    record = trace.node("guidance").sel(image=image)
    columns = {"step": record["step"].values, "norm": record["difference_norm"].values}
    return pd.DataFrame(columns | {name: record[name].values for name in COSINES if name in record})


def pull_chart(frame: pd.DataFrame, mark: int | None) -> alt.LayerChart:
    """Guidance scale: how strongly the prompt is followed."""
    norm = frame.assign(curve="norm of the difference")
    return _lines(norm, "curve", alt.Y("norm", title="with − without prompt"), mark)


def turn_chart(frame: pd.DataFrame, mark: int | None) -> alt.LayerChart | None:
    """Whether the pull keeps its direction; None if that was not recorded."""
    names = {name: told for name, told in COSINES.items() if name in frame}
    turns = frame.rename(columns=names).melt("step", list(names.values()), "curve", "cosine").dropna()
    return _lines(turns, "curve", alt.Y("cosine", title="cosine (1 = same direction)"), mark) if len(turns) else None


def nursing_frame(trace: Trace, image: int = 0) -> pd.DataFrame:
    """One row an iteration and subject: what the method measured of it; the loss stands under the name LOSS."""
    losses = iterations(trace, image=image)
    rows = [(step, LOSS, value) for step, value in losses]
    rows += [
        (step, name, value) for name in nursed(trace, image) for step, value in iterations(trace, name, image=image)
    ]
    return pd.DataFrame(rows, columns=["step", "subject", "value"])


def nursing_chart(frame: pd.DataFrame, title: str) -> alt.LayerChart:
    """One line a subject."""
    return _lines(frame, "subject", alt.Y("value", title=title), None)


def panel_chart(panel: Panel) -> alt.LayerChart:
    """The curves of a comparison's panel."""
    parts = [pd.DataFrame({"step": v["step"], "curve": name, "value": v}) for name, v in panel.curves.items()]
    return _lines(pd.concat(parts).dropna(), "curve", alt.Y("value", title=panel.units), None)


def _lines(frame: pd.DataFrame, column: str, y: alt.Y, mark: int | None) -> alt.LayerChart:
    """Lines told apart by colour and by dash, with points to hover, and a rule at the marked step."""
    order = list(dict.fromkeys(frame[column]))
    wide = max(map(len, order)) > 12
    look = {"symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2.5, "labelLimit": 220 if wide else 100}
    legend = alt.Legend(title=None, orient="top", columns=1 if wide else 2, **look) if len(order) > 1 else None
    colours, dashes = _cycle(series(), len(order)), _cycle(DASHES, len(order))
    shade = alt.Color(f"{column}:N", scale=alt.Scale(domain=order, range=colours), legend=legend)
    dash = alt.StrokeDash(f"{column}:N", scale=alt.Scale(domain=order, range=dashes), legend=legend)
    across = alt.X("step:Q", title=STEP, axis=alt.Axis(tickMinStep=1, format="d"))
    raw = [f"{column}:N", "step:Q", alt.Tooltip(f"{y.shorthand}:Q", format=".4~g")]
    base = alt.Chart(frame).encode(x=across, y=y, color=shade, tooltip=raw)
    layers = [base.mark_line(strokeWidth=2).encode(strokeDash=dash), base.mark_point(filled=True, size=36)]
    if mark is not None:
        rule = alt.Chart(pd.DataFrame({"step": [mark]})).mark_rule(strokeWidth=1.5, strokeDash=[4, 3], color="#808080")
        layers.append(rule.encode(x="step:Q"))
    return alt.LayerChart(layer=layers)


def series() -> Sequence[str]:
    """The colours of curves and bars, as the page is light or dark."""
    return DARK_SERIES if st.context.theme.type == "dark" else style.SERIES


def ink() -> str:
    """The colour of text, as the page is light or dark."""
    return (style.DARK if st.context.theme.type == "dark" else style.LIGHT)["ink"]


def _cycle(items: Sequence[Any], count: int) -> list[Any]:
    return [items[i % len(items)] for i in range(count)]
