"""Guidance: how hard the prompt pulls at each step, where, and in which direction. It loads no model."""

from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from dashboards.shared import charts, code, gallery, look, panels
from dashboards.shared.downloads import Offer, offer
from dashboards.shared.opened import Layers, Opened, View, images, try_open
from probe import show
from probe.errors import NotRecorded, ProbeError
from probe.explain.guidance import guidance
from probe.explain.leave_one_out import shares
from probe.show.pictures import final_picture, predicted_pictures

PAGE = "views/guidance.py"
LEAD = (
    "At each step the model predicts twice, with the prompt and without; guidance amplifies the difference. "
    "Here you see how hard it pulls, where, and whether it keeps its direction."
)


def page(held: Opened) -> None:
    """Curves, then one step closely, then all steps, then each word's part."""
    st.page_link(PAGE, label="All traces", icon=":material/arrow_back:")
    panels.summary(held)
    there = images(held.trace)
    image = there[0]
    if len(there) > 1:
        image = st.segmented_control("Picture", there, default=image, required=True, key=f"guidance image:{held.name}")
    if not panels.guidance(held, image):
        return
    step(held, image)
    st.header("Over the steps", anchor=False)
    draw = partial(show.guidance_strip, held.trace, image=image)
    look.figure(
        draw, "What the model predicted at each step, and where guidance pulled", ("pull", held.name, held.stamp, image)
    )
    frame = partial(charts.guidance_frame, held.trace, image)
    view = View(Layers("All layers", (), None), image=image)
    offer(
        Offer("guidance", code.guidance_code(held, view), frame, partial(show.guidance_curve, held.trace, image=image))
    )
    parts(held, image)


def step(held: Opened, image: int) -> None:
    """One step: what was predicted there, and where the prompt pulled."""
    st.header("At one step", anchor=False)
    steps = held.trace.node("guidance")["step"].values.tolist()
    chosen = st.select_slider("Step", steps, key=f"guidance step:{held.name}") if len(steps) > 1 else steps[0]
    final = final_picture(held.trace, image)
    predicted = [small.resize(final.size) for small in predicted_pictures(held.trace, [chosen], image)]
    picture = (predicted or [final])[0]
    heatmap = replace(guidance(held.trace, steps=chosen, image=image), subject=f"pull at step {chosen}")
    every = held.trace.node("guidance")["magnitude"].sel(image=image)
    scale = float(every.min()), float(every.max())
    left, right = st.columns(2)
    with left:
        st.image(picture, alt=f"What the model predicted at step {chosen}", width=320)
        st.text(f"predicted at step {chosen}")
    with right:
        key = ("pull at", held.name, held.stamp, image, chosen)
        look.figure(
            partial(show.overlay, picture, heatmap, scale=scale), f"Where guidance pulled at step {chosen}", key
        )


def parts(held: Opened, image: int) -> None:
    """Each word's part of the pull, where leave-one-out was recorded; else how to record it."""
    st.header("Each word's part", anchor=False)
    try:
        found = shares(held.trace, image=image)
    except NotRecorded:
        st.markdown("Each word's part of the guidance was not recorded. To record it:")
        st.code("probe.record(pipe, explain=[probe.LeaveOneOut()])", language=None, wrap_lines=True)
        return
    frame = pd.DataFrame({"word": found["word"].values, "share of the pull": found.values})
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(frame, hide_index=True, column_config={"share of the pull": share}, alt="Each word's part of the pull")
    st.markdown("Parts may be negative. The last row is the interaction between words.")


name = st.query_params.get("trace")
opened = try_open(name) if name else None
look.head("Guidance", LEAD)
if opened is None or isinstance(opened, ProbeError):
    if opened is not None:
        look.trouble("The trace in the address cannot be opened.", opened)
    gallery.gallery(PAGE)
else:
    page(opened)
