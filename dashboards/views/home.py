"""Home: what is here, what stays private, and what this installation can do."""

import streamlit as st

import probe
from dashboards.shared import look, traces
from probe.checkup import GIB, Checkup


@st.cache_resource(ttl=300, show_spinner="Looking at this installation …")
def checkup() -> Checkup:
    """What `probe doctor` finds."""
    return probe.doctor()


def doors() -> None:
    """The pages, each with what it is for."""
    for place, (page, title, what) in zip(st.columns(len(PAGES)), PAGES, strict=True):
        with place.container(border=True):
            st.header(title, anchor=False)
            st.markdown(what)
            st.page_link(page, label=f"Open {title}", icon=":material/arrow_forward:")


def installation() -> None:
    """`probe doctor` in short, and in full on request."""
    found = checkup()
    if found.ok:
        st.success("This installation is fine.", icon=":material/check_circle:")
    else:
        look.trouble("Something is missing on this machine.", "\n".join(found.problems))
    free, total = found.memory
    rows = {
        "probe": found.versions["probe"],
        "Runs on": found.device,
        "Memory": f"{free / GIB:.1f} of {total / GIB:.1f} GiB free",
        "Disk": f"{found.disk / GIB:.1f} GiB free",
        "Saved traces": f"{len(traces.names())} in {traces.root()}",
    }
    st.code("\n".join(f"{name:<14}{told}" for name, told in rows.items()), language=None, wrap_lines=True)
    with st.expander("Everything that `probe doctor` says"):
        st.code(str(found), language=None, wrap_lines=True)


PAGES = (
    ("views/generate.py", "Generate & trace", "Generate a picture and record what every word did."),
    ("views/nurse.py", "Diagnose & nurse", "Find subjects that are missing from a picture, and bring them back."),
    ("views/explorer.py", "Explorer", "Open a saved trace: which word made which region, step by step."),
)

look.head("probe", "See inside a diffusion model: which word of a prompt made which part of the picture.")
doors()
st.markdown(
    "**Private:** everything happens on this machine. The dashboard listens here only, sends nothing anywhere, "
    "downloads nothing and keeps no statistics."
)
st.header("This installation", anchor=False)
installation()
