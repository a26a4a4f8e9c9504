"""The page Compare, run without a browser: two saved traces, a word, a step, an address, and what is missing."""

from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import probe
from dashboards.shared import code, traces
from dashboards.shared.compared import Pair
from dashboards.shared.opened import opened
from tests.dashboards.pages import alts, markdown, page, plain, texts
from tests.dashboards.test_code import run
from tests.factories import make_trace
from tests.show.hostile import WORDS

FIGURE = "The maps of cat in the first and of cat in the second trace on one scale, and their difference"


@pytest.fixture
def pair() -> tuple[str, str]:
    """Two seeds; in the second the balloon stands left and the cat right."""
    ours = traces.save(make_trace(steps=3))
    return ours, traces.save(make_trace(steps=3, seed=1, words=("balloon", "cat", "dog")))


def at(pair: tuple[str, str], **query: str) -> AppTest:
    return page("compare", first=pair[0], second=pair[1], **query)


def test_with_fewer_than_two_traces_it_says_how_to_make_them(saved: str):
    app = page("compare")
    assert not app.exception
    assert texts(app.info) == ["There are fewer than two saved traces."]
    assert "recording.trace.save(" in plain(app)


def test_two_traces_are_shown_side_by_side(pair: tuple[str, str]):
    app = at(pair, word="cat")
    assert not app.exception and not app.error
    told = alts(app)
    assert {"First: picture for the prompt “a cat and a balloon”", FIGURE} <= set(told)
    settings = app.dataframe[0].value
    assert ["seed", "0", "1"] in settings.to_numpy().tolist()
    assert "Words of the second only: dog" in plain(app)
    found = probe.compare(*(probe.open(traces.find(name)) for name in pair))
    assert app.dataframe[1].value["word"].tolist() == found.ranked()["word"].tolist()
    for title in ("How far each word's map moved: ", "How hard the prompt pulls: first, second"):
        assert any(each.startswith(title) for each in told)
    assert f"divergence {found.ranked().set_index('word').loc['cat', 'divergence']:.3g} bits" in plain(app)


def test_word_and_step_are_chosen_and_stand_in_the_address(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    app = at(pair, word="cat", beside="dog", step="1")
    assert not app.exception
    assert any("of cat in the first and of dog in the second" in each for each in alts(app))
    assert (app.query_params["step"], app.query_params["beside"]) == ("1", "dog")
    run(app.code[0].value, tmp_path, monkeypatch)
    assert set(pd.read_csv(tmp_path / "comparison.csv")["word"].dropna()) == {"cat"}
    app.select_slider[0].set_value("all").run()
    assert "step" not in app.query_params and not app.exception


def test_an_address_that_leads_nowhere_is_said(pair: tuple[str, str]):
    app = at((pair[0], "nowhere-at-all"))
    assert not app.exception
    assert texts(app.error) == ["The second trace in the address cannot be opened."]


def test_the_code_of_the_curves_runs(pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = code.compare_code(Pair(*(opened(name) for name in pair)), None, None)
    run(text, tmp_path, monkeypatch)
    assert (tmp_path / "comparison.svg").read_bytes().startswith(b"<?xml")


def test_hostile_words_are_only_text():
    for seed in (0, 1):
        traces.save(make_trace(words=WORDS, steps=1, seed=seed))
    app = page("compare")
    assert not app.exception
    assert not any(f"{sign}example.org" in markdown(app) for sign in ("](https://", "www.", "://"))
