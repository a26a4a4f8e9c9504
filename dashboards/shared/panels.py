"""The parts that pages show of a trace. All are computed from the trace alone."""

from collections.abc import Sequence
from functools import partial

import altair as alt
import pandas as pd
import streamlit as st

from dashboards.shared import charts, look
from dashboards.shared.opened import Opened, View, layer_choices, maps, named, planes
from dashboards.shared.viewer import Shown, describe, viewer
from probe import show
from probe.errors import NotRecorded
from probe.show.curves import PULL, TURN
from probe.show.facts import region, settings
from probe.show.pictures import final_picture

CAPTION = "Attention shows where a word could act, not that it caused what is there: change the word to find out."


def summary(held: Opened) -> None:
    """What was run in one line, and the words that the model never read."""
    run = held.trace.run
    facts = [f"{run.steps} steps", f"{run.width} x {run.height} pixels", f"{run.seconds:.1f} s", run.model]
    if run.guidance_scale is not None:
        facts.insert(1, f"guidance {run.guidance_scale:g}")
    if run.seed is not None:
        facts.insert(0, f"seed {run.seed}")
    st.text(" · ".join(facts))
    fallen = [word.text for word in held.trace.words if not any(word.tokens.values())]
    if fallen:
        st.warning("The prompt is too long for the model. These words were cut off:", icon=":material/content_cut:")
        st.text(" ".join(fallen))


def result(held: Opened) -> None:
    """Picture and words, maps of the words, guidance: the first look at a new trace."""
    words = named(held.trace)
    look_at(held, View(layer_choices(held.trace)[0]), f"result:{held.name}", "")
    st.header("Map of every word", anchor=False)
    draw = partial(show.overlays, held.trace, words)
    look.figure(draw, overlays_alt(held.trace.prompt, words), ("result", held.name, held.stamp))
    st.header("Guidance", anchor=False)
    guidance(held, 0)


def look_at(held: Opened, view: View, key: str, chosen: str) -> str:
    """The viewer; returns the word that is kept by a click, or ""."""
    picture = final_picture(held.trace, view.image)
    name = f"{held.name}/{view.image}"
    word = viewer(key, describe(held.trace, planes(held, view), Shown(picture, view.image, view.shared, name)), chosen)
    st.markdown(CAPTION)
    return word


def overlays_alt(prompt: str, words: Sequence[str]) -> str:
    """The figure of overlays in words."""
    return f"The picture for “{prompt}”, and the maps of {', '.join(words)} over it"


def guidance(held: Opened, image: int, step: int | None = None) -> bool:
    """The guidance curves, or why there are none; whether there are any."""
    try:
        frame = charts.guidance_frame(held.trace, image)
    except NotRecorded:
        st.info("No guidance was recorded: the model ran without it, or in one pass.", icon=":material/info:")
        return False
    first, last = frame["norm"].iloc[0], frame["norm"].iloc[-1]
    told = f"{PULL}, over {len(frame)} steps: {first:.3g} at the first, {last:.3g} at the last"
    left, right = st.columns(2)
    with left:
        chart(PULL, charts.pull_chart(frame, step), told)
    turn = charts.turn_chart(frame, step)
    if turn is not None:
        with right:
            chart(TURN, turn, "Cosine of the pull with the step before and with the last step, over the steps")
    return True


def chart(title: str, drawn: alt.LayerChart, told: str, *, height: int = 280) -> None:
    """A chart under its title; `told` says in words what it shows. `height` in pixels."""
    st.markdown(f"**{title}**")
    st.altair_chart(drawn, alt=told, height=height)


def word_lines(held: Opened, view: View, words: Sequence[str]) -> None:
    """Attention of each word over the steps: in the mean, and in the strongest cell."""
    frame = charts.word_frame(maps(held, view.layers, view.image), words)
    titles = {"mean": "Attention, mean over the picture", "strongest cell": "Attention, strongest cell"}
    for place, (column, title) in zip(st.columns(2), titles.items(), strict=True):
        most = frame.loc[frame[column].idxmax()]
        told = f"{title}, over the steps; largest for {most['word']} at step {most['step']}: {most[column]:.3g}"
        with place:
            chart(title, charts.word_chart(frame, column, view.step), told)


def numbers(held: Opened, view: View) -> pd.DataFrame:
    """One row a recorded word: how much attention it gets, where, and at which step most."""
    now, over = planes(held, view), maps(held, view.layers, view.image)
    means = over.mean(("y", "x"))
    rows = [
        {
            "word": word,
            "mean": float(now.sel(word=word).mean()),
            "strongest cell": float(now.sel(word=word).max()),
            "where": region(now.sel(word=word).values),
            "most at step": int(means["step"].values[means.sel(word=word).values.argmax()]),
        }
        for word in over["word"].values.tolist()
    ]
    return pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)


def number_table(frame: pd.DataFrame) -> None:
    """The numbers as a table, shares in per cent."""
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        frame, hide_index=True, column_config={"mean": share, "strongest cell": share}, alt="Attention of each word"
    )


def conditions(held: Opened) -> None:
    """Everything needed to run it again."""
    run = held.trace.run
    rows = [
        ("prompt", " | ".join(run.prompts)),
        *settings(run),
        *((f"version of {name}", found) for name, found in run.versions.items()),
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["setting", "value"]),
        hide_index=True,
        height="content",
        alt="Settings and versions of this run",
    )
