"""Compare: two saved traces beside each other, such as two seeds, models, or a run with and without a LoRA."""

from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.shared import address, charts, code, look, panels, traces
from dashboards.shared.compared import Pair, told
from dashboards.shared.downloads import Offer, offer
from dashboards.shared.inspect import ALL, step_name
from dashboards.shared.opened import Opened, named, try_open
from probe import show
from probe.comparison import Comparison
from probe.errors import ProbeError
from probe.show.pictures import final_picture

LEAD = (
    "Two saved traces beside each other: two seeds, two guidance scales, two models, or a run with and without a LoRA. "
    "Settings that differ, and which word's map moved how far?"
)
CAPTION = "It says how far, not why: two seeds differ, too. To see what one setting does, change it alone, at one seed."
SIDES = ("First", "Second")


def blank() -> None:
    """Too few traces: how to come by two."""
    st.info("There are fewer than two saved traces.", icon=":material/inbox:")
    st.markdown("Generate a picture twice, with one thing changed: the seed, the guidance, the model, a word.")
    st.page_link("views/generate.py", label="Go to Generate & trace", icon=":material/brush:")
    st.markdown("Or record both in Python, and save them here:")
    st.code(f"recording.trace.save({str(traces.root() / 'with-lora')!r})", language=None, wrap_lines=True)


def chosen(names: list[str]) -> list[Opened | ProbeError]:
    """The two traces: those of the address, or the newest two."""
    found = []
    for i, (place, side) in enumerate(zip(st.columns(2), SIDES, strict=True)):
        asked = st.query_params.get(side.lower(), names[i])
        if asked not in names:
            look.trouble(f"The {side.lower()} trace in the address cannot be opened.", f"There is no trace {asked!r}.")
        start = names.index(asked) if asked in names else i
        found.append(try_open(place.selectbox(side, names, start, key=side)))
    return found


def page(pair: Pair) -> None:
    """Pictures and settings, then one word closely, then all over the steps."""
    for place, side, held in zip(st.columns(2), SIDES, (pair.first, pair.second), strict=True):
        with place.container(border=True):
            picture(side, held)
    differing(pair.found)
    address.keep(first=pair.first.name, second=pair.second.name)
    if named(pair.first.trace) and named(pair.second.trace):
        one_word(pair)
    curves(pair)


def picture(side: str, held: Opened) -> None:
    """One picture, its prompt and the way to the Explorer."""
    try:
        st.image(final_picture(held.trace), alt=f"{side}: picture for the prompt “{held.trace.prompt}”", width=320)
    except ProbeError as problem:
        st.text(str(problem))
    st.text(held.trace.prompt)
    panels.summary(held)
    link = {"trace": held.name}
    st.page_link("views/explorer.py", label="Open in the Explorer", icon=":material/travel_explore:", query_params=link)


def differing(found: Comparison) -> None:
    """Settings that differ, and what could not be compared."""
    st.header("Settings that differ", anchor=False)
    if found.settings.empty:
        st.info("No recorded setting differs.", icon=":material/info:")
    else:
        st.dataframe(found.settings, hide_index=True, height="content", alt="Settings that differ")
    for side, alone in found.alone.items():
        if alone:
            st.text(f"Words of the {side} only: {', '.join(alone)}")
    for note in found.notes:
        st.text(f"Not compared: {note}")


def one_word(pair: Pair) -> None:
    """The two maps of a word on one scale, their difference, and how far it moved."""
    st.header("One word", anchor=False)
    first, second, third = st.columns([2, 2, 3], vertical_alignment="bottom")
    word = picked(first, "Word", named(pair.first.trace), farthest(pair.found), pair)
    other = picked(second, "Beside", named(pair.second.trace), word, pair)
    own = pair.beside(word, other)
    step = step_of(third, own)
    address.keep(word=word, beside="" if other.casefold() == word.casefold() else other)
    address.keep(step="" if step == ALL else step)
    st.text(told(own.found, word))
    at = None if step == ALL else int(step)
    draw = partial(show.comparison, own.found, [word], step=at)
    alt = f"The maps of {word} in the first and of {other} in the second trace on one scale, and their difference"
    look.figure(draw, alt, ("compare", *own.key, word, at))
    st.markdown(CAPTION)
    offer(Offer("comparison", code.compare_code(own, word, at), own.found.table, draw))
    if pair.found.words:
        st.markdown("Words of both, by how far their map moved:")
        st.dataframe(pair.found.ranked().round(4), hide_index=True, alt="How far the map of each word moved")


def farthest(found: Comparison) -> str:
    """The word that moved farthest; "" if none is in both."""
    return found.ranked()["word"].iloc[0] if found.words else ""


def picked(place: DeltaGenerator, title: str, options: list[str], otherwise: str, pair: Pair) -> str:
    """A word of a trace: that of the address, or the one that is offered."""
    asked = (st.query_params.get(title.lower(), ""), otherwise)
    known = {word.casefold(): i for i, word in enumerate(options)}
    start = next((known[each.casefold()] for each in asked if each.casefold() in known), 0)
    key = f"{title}:{pair.first.name}:{pair.second.name}:{otherwise}"
    return place.selectbox(title, options, start, key=key)


def step_of(place: DeltaGenerator, pair: Pair) -> str:
    """One step of the first run, or all."""
    steps = [ALL, *map(str, pair.found.maps["step"].values.tolist())]
    asked = st.query_params.get("step", ALL)
    start = asked if asked in steps else ALL
    key = f"step:{pair.first.name}:{pair.second.name}"
    return place.select_slider("Step", steps, start, key=key, format_func=step_name)


def curves(pair: Pair) -> None:
    """All that was recorded over the steps."""
    shown = show.comparison_panels(pair.found)
    if not shown:
        return
    st.header("Over the steps", anchor=False)
    places = [place for _ in shown[::2] for place in st.columns(2)]
    for place, panel in zip(places, shown, strict=False):
        with place:
            panels.chart(panel.title, charts.panel_chart(panel), f"{panel.title}: {', '.join(panel.curves)}")
    draw = partial(show.comparison_curves, pair.found)
    offer(Offer("curves", code.compare_code(pair, None, None), pair.found.table, draw))


look.head("Compare", LEAD)
saved = traces.names()
if len(saved) < 2:
    blank()
else:
    both = chosen(saved)
    opened = [each for each in both if isinstance(each, Opened)]
    for each in both:
        if isinstance(each, ProbeError):
            look.trouble("This trace cannot be opened.", each)
    if len(opened) == 2:
        try:
            page(Pair(opened[0], opened[1]))
        except ProbeError as problem:
            look.trouble("These traces cannot be compared.", problem)
