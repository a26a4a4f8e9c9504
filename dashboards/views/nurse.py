"""Diagnose & nurse: which subjects went missing, and the same picture with them brought back."""

from functools import partial

import streamlit as st

from dashboards.shared import charts, form, jobs, look, panels
from dashboards.shared.escape import label
from dashboards.shared.generation import Request, check
from dashboards.shared.nursing import PLAIN, TOLD, Nursing, built, methods
from dashboards.shared.opened import Opened, try_open
from probe import show
from probe.errors import ProbeError
from probe.show.nursing import EACH, LOSS
from probe.show.nursing import methods as acted
from probe.show.pictures import final_picture

JOB = "nursing"
PREFERRED = "AttendAndExcite"


def ask(busy: bool) -> Nursing | None:
    """The form. A request when the button was pressed."""
    known = methods()
    with st.form("nurse"):
        prompt = form.prompt("a cat and a dog")
        left, right = st.columns(2)
        subjects = left.text_input(
            "Subjects",
            key="subjects",
            persist_state="session",
            placeholder="the nouns of the prompt",
            help="What the picture should show: words of the prompt, with commas between.",
        )
        method = right.selectbox(
            "Method",
            known,
            known.index(PREFERRED) if PREFERRED in known else 0,
            key="method",
            persist_state="session",
            help="How missing subjects are brought back. The last ones need settings of yours.",
        )
        settings = st.text_input(
            "Settings",
            key="settings",
            persist_state="session",
            placeholder="the method's own",
            help="With semicolons: strength=0.5; max_steps=10. Boxes are shares of the picture, from the left, top, "
            "right and bottom: boxes={cat: [0, 0, 0.5, 1], dog: [0.5, 0, 1, 1]}",
        )
        numbers = form.numbers()
        source = form.source()
        pressed = form.button("Draw plain and nursed", busy)
    drawn = Request(prompt, *numbers, None, source)
    return Nursing(drawn, method, form.listed(subjects), settings) if pressed else None


def checked(asked: Nursing) -> Nursing:
    """The request, if it can be run at all."""
    check(asked.drawn)
    built(asked)
    return asked


def reveal(name: str) -> None:
    """Both pictures, what became of the subjects, and how the loss went."""
    held = try_open(name)
    other = held if isinstance(held, ProbeError) else try_open(held.trace.extra.get(PLAIN, ""))
    if isinstance(held, ProbeError) or isinstance(other, ProbeError):
        look.trouble("The traces were saved, but cannot be read now.", held if isinstance(held, ProbeError) else other)
        return
    st.success("Done, and both records are saved on this machine.", icon=":material/check_circle:")
    panels.summary(held)
    method = ", ".join(acted(held.trace)) or "nursed"
    for place, (title, each) in zip(st.columns(2), (("Plain", other), (method, held)), strict=True):
        with place.container(border=True):
            verdict(title, each)
    basis(held)
    maps(other, held)
    curves(held)


def verdict(title: str, held: Opened) -> None:
    """One picture, and what became of every subject in it."""
    st.header(title, anchor=False)
    st.image(final_picture(held.trace), alt=f"{title}: the picture for “{held.trace.prompt}”", width="stretch")
    for sentence in held.trace.extra[TOLD]["sentences"]:
        st.text(sentence)
    link = {"trace": held.name}
    st.page_link("views/explorer.py", label="Open in the Explorer", icon=":material/travel_explore:", query_params=link)


def basis(held: Opened) -> None:
    """What the verdicts rest on."""
    told = held.trace.extra[TOLD]
    with st.expander("What these verdicts rest on"):
        for text in (told["basis"], *told["notes"]):
            st.text(text)


def maps(plain: Opened, nursed: Opened) -> None:
    """The subjects' maps before and after, and over the steps."""
    subjects = nursed.trace.extra[TOLD]["subjects"]
    st.header("Maps of the subjects", anchor=False)
    draw = partial(show.before_after, plain.trace, nursed.trace, subjects[:4])
    alt = f"The picture before and after, with the maps of {', '.join(subjects[:4])} over it"
    look.figure(draw, alt, ("before", plain.name, nursed.name))
    st.markdown(panels.CAPTION)
    st.header("Over the steps", anchor=False)
    word = subjects[0]
    if len(subjects) > 1:
        word = st.segmented_control("Subject", subjects, default=word, required=True, format_func=label, key="strip")
    for title, held in (("Plain", plain), ("Nursed", nursed)):
        st.markdown(f"**{title}**")
        told = f"{title}: map of {word} at steps spread over the run, under the picture predicted at each"
        look.figure(partial(show.strip, held.trace, word), told, ("strip", held.name, word))


def curves(held: Opened) -> None:
    """How the loss went, and what the method measured of each subject."""
    st.header("What the method did", anchor=False)
    if not show.has_nursing(held.trace):
        st.info("This method moved no latents, so there is no loss to show.", icon=":material/info:")
        return
    frame = charts.nursing_frame(held.trace)
    losses = frame.loc[frame["subject"] == LOSS]
    told = f"{LOSS}: {losses['value'].iloc[0]:.3g} at the first, {losses['value'].iloc[-1]:.3g} at the last"
    left, right = st.columns(2)
    with left:
        panels.chart(LOSS, charts.nursing_chart(losses, "loss"), told)
    each = frame.loc[frame["subject"] != LOSS]
    if len(each):
        with right:
            panels.chart(EACH, charts.nursing_chart(each, "value"), f"{EACH}, over the steps")


look.head(
    "Diagnose & nurse",
    "Which of the things you asked for went missing, and why? The picture is drawn twice from the same noise: "
    "plain, and with its subjects nursed.",
)
job = jobs.current(Nursing, JOB)
asked = ask(busy=job is not None and job.active)
if asked is not None:
    jobs.submit(asked, checked, key=JOB)
elif job is None:
    st.info(
        "Press the button above: both pictures and what became of every subject appear here.", icon=":material/image:"
    )
else:
    jobs.follow(job, reveal)
