"""Concepts: what a model means by a word, as words that can be turned up and down. It loads no model until asked."""

from collections.abc import Callable

import streamlit as st

from dashboards.shared import concepts, jobs, look, panels
from dashboards.shared.concepts import STEERED, TURNED, Along, Prune, Redraw
from dashboards.shared.downloads import Offer, offer
from dashboards.shared.escape import label
from probe.concepts.concept import CONCEPT, DECOMPOSITION, TARGET, Concept
from probe.errors import ProbeError

SLIDERS, LOW, HIGH, STEP = 8, -2.0, 3.0, 0.25
WIDE, NARROW = 120, 72  # pixels below which a row of pictures breaks
TITLES = {
    CONCEPT: "The concept",
    DECOMPOSITION: "From its words",
    TURNED: "Turned",
    TARGET: "Before",
    STEERED: "Steered",
}
TURN, PRUNE, STEER = "turning", "pruning", "steering"
Asked = Redraw | Prune | Along
CAUTION = "A coefficient is a share of an embedding, not of pictures; other words might draw the same."


def gallery() -> None:
    """All saved concepts, each with the way in."""
    found = concepts.names()
    if not found:
        st.info("There is no saved concept yet.", icon=":material/inbox:")
        st.markdown("Take one apart on the command line, with `--out` in the dashboard's folder:")
        st.code('probe concept "an animal" --solver mixture --out out/animal', language=None, wrap_lines=True)
        return
    grid = st.grid(min_column_width=220, key="concepts")
    for name in found:
        with grid.container(border=True):
            card(name)


def card(name: str) -> None:
    """One concept: a picture, its prompt, its largest words."""
    held = concepts.try_open(name)
    if isinstance(held, ProbeError):
        st.text(f"{name}\nThis concept cannot be opened.\n{held}")
        return
    kind = concepts.lead(held)
    told, shown = concepts.subject(held, kind), held.pictures.get(kind)
    if shown:
        st.image(shown[0], alt=f"Picture of {told}", width="stretch")
    st.text(told)
    st.text(", ".join(held.top(4)))
    st.page_link("views/concepts.py", label="Open", icon=":material/category:", query_params={"concept": name})


def whole(name: str, held: Concept) -> None:
    """One concept from every side."""
    st.page_link("views/concepts.py", label="All concepts", icon=":material/arrow_back:", query_params={})
    st.title("Concepts", anchor=False)
    st.text(
        f"{concepts.subject(held, concepts.lead(held))} · {held.settings.get('solver', '')} · {len(held.words)} words"
    )
    pictures(held)
    st.header("Its words", anchor=False)
    frame = concepts.bars(held)
    told = f"Coefficients of the words of {held.prompt}; largest: {', '.join(held.top(3))}"
    panels.chart("How much of each word is mixed in", concepts.bar_chart(frame), told, height=concepts.height(frame))
    st.markdown(CAUTION)
    offer(Offer("concept", code(name), lambda: frame))
    words(held)
    turn(name, held)
    prune(name)
    steer(name)


def pictures(held: Concept) -> None:
    """Rows of pictures at equal seeds."""
    for kind, title in TITLES.items():
        shown = held.pictures.get(kind, ())
        if shown:
            told = concepts.subject(held, kind)
            st.markdown(f"**{title}**")
            if told != held.prompt:
                st.text(told)
            grid = st.grid(max(4, len(shown)), min_column_width=WIDE)
            for i, picture in enumerate(shown):
                grid.image(picture, alt=f"{title}: {told}, picture {i + 1}", width="stretch")


def words(held: Concept) -> None:
    """A picture of each of the largest words, where there are some."""
    drawn = list(held.of_words.items())[:10]
    if drawn:
        st.header("Pictures of the words", anchor=False)
        grid = st.grid(max(5, len(drawn)), min_column_width=NARROW)
        for word, picture in drawn:
            place = grid.container()
            place.image(picture, alt=f"Picture of {word}", width="stretch")
            place.text(word)


def turn(name: str, held: Concept) -> None:
    """Sliders for the largest words; the button draws again from the same seed."""
    st.header("Scale its words", anchor=False)

    def fields() -> Redraw:
        grid = st.grid(4, min_column_width=WIDE)
        factors = {
            word: grid.slider(label(word), LOW, HIGH, 1.0, STEP, key=f"turn:{name}:{word}")
            for word in held.top(SLIDERS)
        }
        seed = st.number_input("Seed", 0, 2**53 - 1, 0, key=f"seed:{name}", help="Same seed, same noise.")
        st.markdown("1 keeps a word, 0 removes it, below 0 pushes away from it.")
        return Redraw(name, int(seed), tuple((word, factor) for word, factor in factors.items() if factor != 1.0))

    ask(TURN, "Draw again", fields=fields, show=show_turned)


def prune(name: str) -> None:
    """Which words does the picture at a seed need?"""
    st.header("One picture", anchor=False)

    def fields() -> Prune:
        seed = st.number_input("Seed of the picture", 0, 2**53 - 1, 0, key=f"prune:{name}")
        st.markdown("Words are taken out, smallest first, as long as Menagerie's CLIP finds the picture alike.")
        return Prune(name, int(seed))

    ask(PRUNE, "Which words does it need?", fields=fields, show=show_pruned)


def steer(name: str) -> None:
    """Another prompt, plain and along the concept."""
    st.header("Steer a prompt along it", anchor=False)

    def fields() -> Along:
        prompt = st.text_input("Prompt", "a house", key=f"along:{name}")
        left, right = st.columns(2)
        strength = left.slider("Strength", LOW, HIGH, 1.0, STEP, key=f"strength:{name}", help="Below 0 leads away.")
        seed = right.number_input(
            "Seed to steer at", 0, 2**53 - 1, 0, key=f"along-seed:{name}", help="Same seed, same noise."
        )
        return Along(name, int(seed), prompt, strength)

    ask(STEER, "Draw both", fields=fields, show=show_steered)


def ask(key: str, button: str, *, fields: Callable[[], Asked], show: Callable[[Concept], None]) -> None:
    """A form with its button; below it what becomes of the job that it asked for."""
    with st.form(f"form:{key}"):
        wanted = fields()
        job = jobs.current(type(wanted), key)
        pressed = st.form_submit_button(button, disabled=job is not None and job.active)
    if pressed:
        jobs.submit(wanted, lambda asked: asked, key=key)
    elif job is not None and job.request.name == wanted.name:
        jobs.follow(job, lambda made: shown(made, show))


def shown(name: str, show: Callable[[Concept], None]) -> None:
    """What a job has saved, or why it cannot be read."""
    held = concepts.try_open(name)
    if isinstance(held, ProbeError):
        look.trouble("It was made and saved, but cannot be read now.", held)
        return
    show(held)
    pictures(held)


def show_turned(held: Concept) -> None:
    """Before and after."""
    st.success("Drawn from the same noise, and saved on this machine.", icon=":material/check_circle:")


def show_pruned(held: Concept) -> None:
    """The words that are left, and the picture from them alone."""
    gone = held.provenance.get("removed", ())
    st.success(f"{len(held.words)} words are enough; {len(gone)} went.", icon=":material/check_circle:")
    st.text(f"Needed: {', '.join(held.words)}")


def show_steered(held: Concept) -> None:
    """How far, and from where."""
    told = held.provenance.get("steered", {})
    st.success("Drawn from the same noise, and saved on this machine.", icon=":material/check_circle:")
    st.text(f"{told.get('prompt')} · strength {told.get('strength')} · away from {told.get('away')}")


def code(name: str) -> str:
    """The Python that opens the concept."""
    return f"import probe\n\nconcept = probe.Concept.open({str(concepts.place(name))!r})\nprint(concept)"


asked = st.query_params.get("concept")
held = concepts.try_open(asked) if asked else None
if asked is None or held is None or isinstance(held, ProbeError):
    look.head("Concepts", "What does a model mean by a word? Words whose mixture it draws as it draws the concept.")
    if held is not None:
        look.trouble("The concept in the address cannot be opened.", held)
    gallery()
else:
    whole(asked, held)
