"""Generate & trace: a prompt becomes a picture and a record of what every word did."""

import streamlit as st

from dashboards.shared import form, jobs, look, panels
from dashboards.shared.generation import Request, check
from dashboards.shared.opened import try_open
from probe.errors import ProbeError
from probe.explain import METHODS

JOB = "job"


def ask(busy: bool) -> Request | None:
    """The form. A request when the button was pressed."""
    with st.form("ask"):
        prompt = form.prompt("a cat and a red balloon")
        numbers = form.numbers()
        words = st.text_input(
            "Words to record",
            key="words",
            persist_state="session",
            placeholder="all content words",
            help="With commas between, as in: cat, red balloon",
        )
        methods = also()
        source = form.source()
        pressed = form.button("Generate and trace", busy)
    return Request(prompt, *numbers, form.listed(words), source, methods) if pressed else None


def also() -> tuple[str, ...]:
    """Methods that take passes or memory of their own."""
    costly = {method.name: method for method in METHODS if method.record or method.relations}
    chosen = st.multiselect(
        "Also record for",
        list(costly),
        format_func=lambda name: costly[name].title,
        key="also",
        persist_state="session",
        placeholder="nothing",
        help="Further methods to explain by in the Explorer. Each takes extra passes of the model, so it takes longer.",
    )
    return tuple(chosen)


def show(name: str) -> None:
    """The picture, its words and the guidance curve of a finished trace."""
    held = try_open(name)
    if isinstance(held, ProbeError):
        look.trouble("The trace was saved, but cannot be read now.", held)
        return
    first, second = st.columns([3, 1], vertical_alignment="center")
    first.success("Done, and saved on this machine.", icon=":material/check_circle:")
    link = {"trace": name}
    second.page_link(
        "views/explorer.py", label="Open in the Explorer", icon=":material/travel_explore:", query_params=link
    )
    panels.summary(held)
    panels.result(held)


look.head(
    "Generate & trace", "Write what the picture should show. While it is drawn, every layer and step is recorded."
)
job = jobs.current(Request, JOB)
asked = ask(busy=job is not None and job.active)
if asked is not None:
    jobs.submit(asked, check, key=JOB)
elif job is None:
    st.info("Press the button above: the picture and the map of every word appear here.", icon=":material/image:")
else:
    jobs.follow(job, show)
