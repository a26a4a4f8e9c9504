"""One trace from every side. What is chosen stands in the address, so that it can be kept and passed on."""

from dataclasses import dataclass
from functools import partial

import streamlit as st

from dashboards.shared import address, charts, code, explained, look, panels, tabled
from dashboards.shared.downloads import Offer, map_frame, offer
from dashboards.shared.escape import label
from dashboards.shared.opened import Layers, Opened, View, images, layer_choices, leading, maps, named
from dashboards.shared.regions import regions
from probe import show
from probe.errors import ProbeError

ALL = "all"
TABS = ("Maps", "Methods", "A region", "Over the steps", "Guidance", "Numbers", "Tables", "Settings")


@dataclass(frozen=True)
class Look:
    """What is looked at: a trace, a view of it, the words in figures, and the one word that is kept."""

    held: Opened
    view: View
    words: list[str]
    word: str

    @property
    def key(self) -> tuple[object, ...]:
        """Tells this look from every other."""
        view = self.view
        return self.held.name, self.held.stamp, view.layers.name, view.step, view.image, view.shared, *self.words


def inspect(held: Opened) -> None:
    """The whole view of a trace. What it cannot show it says."""
    st.page_link("views/explorer.py", label="All traces", icon=":material/arrow_back:")
    st.title("Explorer", anchor=False)
    panels.summary(held)
    st.fragment(_safely)(held)


def _safely(held: Opened) -> None:
    try:
        _look(held)
    except ProbeError as problem:
        look.trouble("This part of the trace cannot be shown.", problem)


def _look(held: Opened) -> None:
    view = _controls(held)
    word = _viewers(held, view, _word(held, view.image, st.query_params.get("word", "")))
    address.keep(word=word, step="" if view.step is None else str(view.step))
    chosen = Look(held, view, _words(held, view.image), word or leading(held.trace, view.image)[0])
    parts = (_maps, _methods, _region, _steps, _guidance, _numbers, _tables, _settings)
    for tab, part in zip(st.tabs(TABS, on_change="rerun", key=f"tab:{held.name}"), parts, strict=True):
        if tab.open:
            with tab:
                part(chosen)


def _viewers(held: Opened, view: View, asked: str) -> str:
    """The viewer by the chosen method, and a second one beside it, which shows the word that is kept in the first."""
    first, second = explained.switch(held, view.image)
    if second is None:
        return explained.look_by(held, view, first, asked)
    left, right = st.columns(2)
    with left:
        word = explained.look_by(held, view, first, asked)
    with right:
        explained.look_by(held, view, second, word or asked, follows=True)
    return word


def _controls(held: Opened) -> View:
    """Step, layers, scale and, if there are several, the picture."""
    first, second, third = st.columns([3, 2, 2], vertical_alignment="bottom")
    layers = {each.name: each for each in layer_choices(held.trace)}
    chosen = layers[second.selectbox("Layers", list(layers), key=f"layers:{held.name}")]
    image = _picture(held)
    with first:
        step = _step(held, chosen, image)
    shared = third.toggle(
        "One colour scale", key=f"shared:{held.name}", help="The same for all words, to compare amounts."
    )
    return View(chosen, step, image, shared)


def _step(held: Opened, layers: Layers, image: int) -> int | None:
    steps = [ALL, *(str(step) for step in maps(held, layers, image)["step"].values.tolist())]
    asked = st.query_params.get("step", ALL)
    start = asked if asked in steps else ALL
    chosen = st.select_slider("Step", steps, start, key=f"step:{held.name}", format_func=step_name)
    return None if chosen == ALL else int(chosen)


def step_name(step: str) -> str:
    """What a step of a slider is called."""
    return "all steps" if step == ALL else f"step {step}"


def _picture(held: Opened) -> int:
    there = images(held.trace)
    if len(there) == 1:
        return there[0]
    return st.segmented_control("Picture", there, default=there[0], required=True, key=f"image:{held.name}")


def _words(held: Opened, image: int) -> list[str]:
    """The words that figures and tables show: in the order of the trace, never none."""
    labels, default = list(held.trace.labels_of(image)), leading(held.trace, image)
    key = f"words:{held.name}:{held.trace.run.rank_of(image)}"
    options = {"selection_mode": "multi", "default": default, "format_func": label, "key": key}
    picked = st.pills("Words in the figures", labels, **options)
    return [each for each in labels if each in picked] or default


def _word(held: Opened, image: int, asked: str) -> str:
    return asked if asked in held.trace.labels_of(image) else leading(held.trace, image)[0]


def _maps(at: Look) -> None:
    draw = partial(show.overlays, at.held.trace, at.words, shared_scale=at.view.shared, choice=at.view.choice)
    look.figure(draw, panels.overlays_alt(at.held.trace.prompt, at.words), ("maps", *at.key))
    chosen = maps(at.held, at.view.layers, at.view.image).sel(word=at.words)
    part = chosen if at.view.step is None else chosen.sel(step=[at.view.step])
    offer(Offer("maps", code.maps_code(at.held, at.view, at.words), partial(map_frame, part), draw))


def _methods(at: Look) -> None:
    image, own = at.view.image, named(at.held.trace, at.view.image)
    words = [word for word in at.words if word in own] or own
    found = explained.all_maps(at.held, image, words)
    draw = partial(show.side_by_side, at.held.trace, found, image=image)
    look.figure(draw, f"Maps of {', '.join(words)} by each method, side by side", ("methods", image, *words, *at.key))
    frame = partial(explained.method_frame, found)
    offer(Offer("methods", code.methods_code(at.held, image, words), frame, draw))
    absent = explained.missing(at.held, image)
    if absent:
        st.markdown("What this trace was not recorded for, and how to record it:")
        asked = {method.name: method.ask for method in absent}
        st.code("\n".join(f"{name:<18}{ask}" for name, ask in asked.items()), language=None, wrap_lines=True)


def _region(at: Look) -> None:
    regions(at.held, at.view.image)


def _steps(at: Look) -> None:
    trace, choice = at.held.trace, at.view.over_steps
    alt = f"Map of {at.word} at steps spread over the run, under the picture predicted at each"
    look.figure(partial(show.strip, trace, at.word, choice=choice), alt, ("strip", at.word, *at.key))
    panels.word_lines(at.held, at.view, at.words)
    frame = partial(charts.word_frame, maps(at.held, at.view.layers, at.view.image), at.words)
    curves = partial(show.word_curves, trace, at.words, choice=choice)
    offer(Offer("curves", code.steps_code(at.held, at.view, at.words, at.word), frame, curves))


def _guidance(at: Look) -> None:
    if panels.guidance(at.held, at.view.image, at.view.step):
        frame = partial(charts.guidance_frame, at.held.trace, at.view.image)
        draw = partial(show.guidance_curve, at.held.trace, image=at.view.image)
        offer(Offer("guidance", code.guidance_code(at.held, at.view), frame, draw))


def _numbers(at: Look) -> None:
    frame = panels.numbers(at.held, at.view)
    chosen = frame.loc[frame["word"].isin(at.words)]
    panels.number_table(chosen)
    offer(Offer("numbers", code.numbers_code(at.held, at.view, at.words), lambda: chosen))


def _tables(at: Look) -> None:
    tabled.page(at.held, at.view.image)


def _settings(at: Look) -> None:
    panels.conditions(at.held)
    st.markdown("To generate and record it again:")
    st.code(code.run_code(at.held), language=None, wrap_lines=True)
