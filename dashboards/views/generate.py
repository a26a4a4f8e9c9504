"""Generate & trace: a prompt becomes a picture and a record of what every word did."""

import streamlit as st

from dashboards.shared import look, panels
from dashboards.shared.generation import Request, check, worker
from dashboards.shared.opened import try_open
from dashboards.shared.worker import Job
from probe.errors import ProbeError

POLL_SECONDS = 0.4
JOB = "job"


def ask(busy: bool) -> Request | None:
    """The form. A request when the button was pressed."""
    with st.form("ask"):
        prompt = st.text_area(
            "Prompt",
            "a cat and a red balloon",
            height=80,
            key="prompt",
            persist_state="session",
            help="What the picture should show.",
        )
        seed, steps, guidance = _numbers()
        words = st.text_input(
            "Words to watch",
            key="words",
            persist_state="session",
            placeholder="all content words",
            help="With commas between, as in: cat, red balloon",
        )
        with st.expander("Another model"):
            source = st.text_input(
                "Folder of a diffusers pipeline",
                key="source",
                persist_state="session",
                placeholder="Menagerie, which comes with probe",
                help="A folder on this machine that save_pretrained wrote, with safetensors. The button loads it.",
            )
        kind = "secondary" if st.context.theme.type == "dark" else "primary"  # white text would vanish on pink
        pressed = st.form_submit_button("Generate and trace", type=kind, disabled=busy)
    if not pressed:
        return None
    chosen = tuple(word.strip() for word in words.split(",") if word.strip()) or None
    return Request(prompt, int(seed or 0), steps, guidance, chosen, source.strip() or None)


def _numbers() -> tuple[int | None, int | None, float | None]:
    first, second, third = st.columns(3)
    seed = first.number_input(
        "Seed",
        0,
        2**53 - 1,
        0,
        key="seed",
        persist_state="session",
        help="Where the noise starts: same seed, same picture.",
    )
    steps = second.number_input(
        "Steps", 1, 500, None, key="steps", persist_state="session", placeholder="model's own", help="Denoising steps."
    )
    guidance = third.number_input(
        "Guidance",
        0.0,
        50.0,
        None,
        0.5,
        key="guidance",
        persist_state="session",
        placeholder="model's own",
        help="How hard the prompt pulls.",
    )
    return seed, steps, guidance


def submit(request: Request) -> None:
    """Put the request in the queue, or say why it cannot be."""
    try:
        job = worker().submit(check(request))
    except ProbeError as problem:
        look.trouble("This cannot be drawn as it stands. Nothing was changed; correct it above.", problem)
        return
    st.session_state[JOB] = st.query_params[JOB] = job.id
    st.rerun()


def watch(job: Job) -> None:
    """How far the job is, and a way to stop it. Reruns the page when it has ended."""
    if not job.active:
        st.rerun(scope="app")
    ahead = worker().ahead(job)
    if job.state == "waiting":
        st.progress(0.0, f"Waiting: {ahead} before you" if ahead else "Waiting for the one that is being drawn")
    elif job.total:
        st.progress(min(1.0, job.step / job.total), f"{job.stage.capitalize()}: step {job.step} of {job.total}")
    else:
        st.progress(0.0, f"{job.stage.capitalize()} …" if job.stage else "Starting …")
    if st.button("Cancel", key="cancel", help="Stops at the next operation; what was drawn so far is dropped."):
        worker().cancel(job)
        job.wait(2.0)
        st.rerun(scope="app")


def outcome(job: Job) -> None:
    """What became of an ended job."""
    if job.state == "cancelled":
        st.info("Cancelled. Nothing was saved; your settings are still above.", icon=":material/cancel:")
    elif job.state == "failed":
        look.trouble("This could not be drawn. Your settings are still above.", job.problem)
    else:
        show(job.result)


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


def current() -> Job | None:
    """The job of this session, or of the address it was reopened with."""
    return worker().job(st.session_state.get(JOB) or st.query_params.get(JOB))


look.head(
    "Generate & trace", "Write what the picture should show. While it is drawn, every layer and step is recorded."
)
job = current()
asked = ask(busy=job is not None and job.active)
if asked is not None:
    submit(asked)
elif job is None:
    st.info("Press the button above: the picture and the map of every word appear here.", icon=":material/image:")
elif job.active:
    st.fragment(watch, run_every=POLL_SECONDS)(job)
else:
    outcome(job)
