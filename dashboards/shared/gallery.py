"""The saved traces as cards, newest first."""

import streamlit as st
from PIL import Image

from dashboards.shared import traces
from dashboards.shared.opened import Opened, try_open
from probe.errors import ProbeError
from probe.show.pictures import final_picture

CARDS = 12


def gallery(page: str = "views/explorer.py") -> None:
    """All saved traces, each with the way to a page, or what to do when there are none."""
    found = traces.names()
    if not found:
        _blank()
        return
    wanted = st.text_input(
        "Find", key="find", placeholder="a word of the prompt", help="Looks in the names of the traces."
    )
    kept = [name for name in found if all(part in name for part in wanted.casefold().split())]
    if not kept:
        st.info("No trace is named like that. Clear the field to see all.", icon=":material/search_off:")
        return
    pages = -(-len(kept) // CARDS)
    number = st.pagination(pages, key="page") if pages > 1 else 1
    grid = st.grid(min_column_width=200, key="cards")
    for name in kept[(number - 1) * CARDS : number * CARDS]:
        with grid.container(border=True):
            card(name, page)


def card(name: str, page: str) -> None:
    """One trace: its picture, its prompt, and the way in."""
    held = try_open(name)
    if isinstance(held, ProbeError):
        st.text(f"{name}\nThis trace cannot be opened.\n{held}")
        return
    try:
        st.image(_small(held), alt=f"Picture for the prompt: {held.trace.prompt}", width="stretch")
    except ProbeError as problem:
        st.text(str(problem))
    run, prompt = held.trace.run, held.trace.prompt
    st.text(prompt if len(prompt) <= 120 else prompt[:119] + "…")
    steps = f"{run.steps} step{'s' if run.steps != 1 else ''}"
    st.text(steps if run.seed is None else f"seed {run.seed} · {steps}")
    link = {"trace": name}
    st.page_link(page, label="Open", icon=":material/travel_explore:", query_params=link)


@st.cache_resource(max_entries=256, show_spinner=False, hash_funcs={Opened: hash})
def _small(held: Opened) -> Image.Image:
    picture = final_picture(held.trace).copy()
    picture.thumbnail((384, 384))
    return picture


def _blank() -> None:
    st.info("There is no saved trace yet.", icon=":material/inbox:")
    st.markdown("Make one: write a prompt, and its record is saved by itself.")
    st.page_link("views/generate.py", label="Go to Generate & trace", icon=":material/brush:")
    st.markdown("Or put the folder of a trace from elsewhere here:")
    st.code(str(traces.root()), language=None, wrap_lines=True)
