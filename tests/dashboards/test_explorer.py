"""The Explorer: a list, one trace from every side, and no model anywhere."""

import base64
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import probe
from dashboards.shared import traces
from probe.readings import Choice, word_maps
from tests.dashboards.pages import alts, markdown, page, plain, texts, viewed
from tests.factories import make_trace
from tests.show.hostile import WORDS

TABS = ("Maps", "Methods", "A region", "Over the steps", "Guidance", "Numbers", "Settings")


def turn(app: AppTest, tab: str, name: str) -> AppTest:
    """Open a tab."""
    app.session_state[f"tab:{name}"] = tab
    return app.run()


def planes(app: AppTest) -> np.ndarray:
    """The maps that the viewer was given: [word, y, x]."""
    data = viewed(app)
    values = np.frombuffer(base64.b64decode(data["maps"]), dtype="<f4")
    return values.reshape(len(data["words"]), *data["grid"])


def expected(name: str, choice: Choice) -> np.ndarray:
    """The same from the trace itself."""
    trace = probe.open(traces.find(name))
    return word_maps(trace, trace.labels, choice).mean("step").values


def test_without_traces_it_says_what_to_do(root_of_traces: Path):
    app = page("explorer")
    assert not app.exception
    assert texts(app.info) == ["There is no saved trace yet."]
    assert app.get("page_link")[0].proto.label == "Go to Generate & trace"
    assert texts(app.code) == [str(root_of_traces)]


def test_the_list_shows_every_trace_and_finds_one(saved: str):
    traces.save(make_trace(words=("dog", "bowl"), steps=1))
    app = page("explorer")
    assert sorted(texts(app.text)) == [
        "a cat and a balloon",
        "a dog and a bowl",
        "seed 0 · 1 step",
        "seed 0 · 6 steps",
    ]
    assert sorted(alts(app))[0] == "Picture for the prompt: a cat and a balloon"
    assert f"trace={saved}" in [link.proto.query_string for link in app.get("page_link")]
    app.text_input[0].set_value("Balloon cat").run()
    assert texts(app.text) == ["a cat and a balloon", "seed 0 · 6 steps"]
    app.text_input[0].set_value("zebra").run()
    assert texts(app.info) == ["No trace is named like that. Clear the field to see all."]


def test_a_damaged_trace_says_so_and_the_others_stay(saved: str):
    broken = traces.save(make_trace(steps=1, words=("dog", "bowl")))
    (traces.find(broken) / "manifest.json").write_text("{}")
    app = page("explorer")
    assert not app.exception
    assert "a cat and a balloon" in texts(app.text)
    assert any(text.startswith(f"{broken}\nThis trace cannot be opened.") for text in texts(app.text))


@pytest.mark.parametrize("name", ["../secret-trace", "nowhere-at-all", "![x](https://example.org/x.png)"])
def test_an_address_without_a_trace_is_explained(name: str, saved: str):
    app = page("explorer", trace=name)
    assert not app.exception
    assert texts(app.error) == ["The trace in the address cannot be opened."]
    assert "choose one below" in plain(app).lower()
    assert name not in markdown(app)
    assert "a cat and a balloon" in texts(app.text)


def test_a_trace_opens_with_all_its_words_and_without_a_model(saved: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # importing it would fail
    app = page("explorer", trace=saved)
    assert not app.exception
    assert not app.error
    data = viewed(app)
    assert [word["label"] for word in data["words"]] == ["cat", "balloon", "<start>", "<end>", "<padding>"]
    assert "".join(piece["text"] for piece in data["pieces"]) == "a cat and a balloon"
    assert [word["where"] for word in data["words"]][:2] == ["top left", "bottom right"]
    assert data["chosen"] == "cat"
    np.testing.assert_allclose(planes(app), expected(saved, Choice()), rtol=1e-6)
    assert texts(app.text) == ["seed 0 · 6 steps · guidance 5 · 128 x 128 pixels · 2.0 s · menagerie"]


def test_the_step_slider_layers_and_scale_change_the_maps(saved: str):
    app = page("explorer", trace=saved)
    app.select_slider[0].set_value("4").run()
    np.testing.assert_allclose(planes(app), expected(saved, Choice(steps=4)), rtol=1e-6)
    assert app.query_params["step"] == "4"
    app.selectbox[0].set_value("Up: the way out").run()
    np.testing.assert_allclose(planes(app), expected(saved, Choice("up_blocks", steps=4)), rtol=1e-6)
    own = {(word["low"], word["high"]) for word in viewed(app)["words"] if not word["special"]}
    assert len(own) == 2
    app.toggle[0].set_value(True).run()
    shared = {(word["low"], word["high"]) for word in viewed(app)["words"] if not word["special"]}
    assert shared == {(min(low for low, _ in own), max(high for _, high in own))}
    app.select_slider[0].set_value("all").run()
    assert "step" not in app.query_params


def test_the_address_says_which_word_and_step(saved: str):
    app = page("explorer", trace=saved, word="balloon", step="2")
    assert viewed(app)["chosen"] == "balloon"
    assert app.select_slider[0].value == "2"
    np.testing.assert_allclose(planes(app), expected(saved, Choice(steps=2)), rtol=1e-6)


@pytest.mark.parametrize(("word", "step"), [("owl", "99"), ("", "-1"), ("![x](y)", "all; drop"), ("<img>", "1e3")])
def test_nonsense_in_the_address_is_left_aside(word: str, step: str, saved: str):
    app = page("explorer", trace=saved, word=word, step=step)
    assert not app.exception
    assert viewed(app)["chosen"] == "cat"
    assert app.select_slider[0].value == "all"


def test_every_tab_has_its_figure_data_and_code(saved: str):
    app = page("explorer", trace=saved)
    wanted = {
        "Maps": "and the maps of cat, balloon over it",
        "Over the steps": "Map of cat at steps spread over the run",
        "Guidance": "How hard the prompt pulls, over 6 steps: 3 at the first, 1.2 at the last",
        "Numbers": "Attention of each word",
        "Settings": "Settings and versions of this run",
    }
    for tab, alt in wanted.items():
        turn(app, tab, saved)
        assert not app.exception
        assert any(alt in told for told in alts(app)), tab
        assert "probe" in texts(app.code)[-1]
        kinds = {"Numbers": 2, "Settings": 0}.get(tab, 4)
        assert len(app.get("download_button")) == kinds


def test_the_words_in_figures_are_chosen_by_toggles(saved: str):
    app = page("explorer", trace=saved)
    app.pills[0].set_value(["balloon"])
    turn(app, "Numbers", saved)
    assert app.dataframe[0].value["word"].tolist() == ["balloon"]
    app.pills[0].set_value(["cat", "balloon", "<start>"]).run()
    frame = app.dataframe[0].value
    assert frame["word"].tolist() == ["<start>", "balloon", "cat"]  # the most attention first
    trace = probe.open(traces.find(saved))
    row = frame.set_index("word").loc["balloon"]
    heatmap = probe.attention(trace, "balloon")
    assert row["mean"] == pytest.approx(float(heatmap.values.mean()), rel=1e-5)
    assert row["strongest cell"] == pytest.approx(float(heatmap.values.max()), rel=1e-5)
    assert row["most at step"] == 5
    app.pills[0].set_value([]).run()
    assert app.dataframe[0].value["word"].tolist() == ["balloon", "cat"]


def test_a_batch_shows_each_picture():
    name = traces.save(make_trace(images=2, steps=2))
    app = page("explorer", trace=name)
    first = viewed(app)["picture"]
    app.segmented_control[0].set_value(1).run()
    assert viewed(app)["picture"] != first
    np.testing.assert_allclose(planes(app), expected(name, Choice(image=1)), rtol=1e-6)


def test_a_trace_without_guidance_or_attention_says_so():
    trace = make_trace(steps=2)
    bare = trace.tree.copy()
    del bare["guidance"]
    name = traces.save(probe.Trace(trace.run, trace.words, trace.tokens, trace.sites, bare, trace.pictures))
    app = turn(page("explorer", trace=name), "Guidance", name)
    assert texts(app.info) == ["No guidance was recorded: the model ran without it, or in one pass."]
    del bare["attention"]
    name = traces.save(probe.Trace(trace.run, trace.words, trace.tokens, trace.sites, bare, trace.pictures))
    app = page("explorer", trace=name)
    assert not app.exception
    assert texts(app.error) == ["This part of the trace cannot be shown."]
    assert "this trace holds no attention" in plain(app)


def test_hostile_words_are_never_markdown():
    name = traces.save(make_trace(words=WORDS, steps=2))
    live = re.compile(r"(?<!\\)(<|\$|!\[|`|:red)")
    assert not live.search(markdown(page("explorer")))
    app = page("explorer", trace=name)
    for tab in TABS:
        turn(app, tab, name)
        assert not app.exception
        assert not live.search(markdown(app)), tab
