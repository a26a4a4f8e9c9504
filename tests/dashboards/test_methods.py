"""Several methods in the Explorer, the Guidance page and the Faithfulness page, run without a browser."""

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

import probe
from dashboards.shared import code, traces
from dashboards.shared.opened import opened
from probe.explain import METHODS, ranking
from probe.trace import Trace
from tests.dashboards.pages import alts, markdown, page, plain, texts, viewed
from tests.dashboards.test_code import run
from tests.explain.test_roles import with_roles
from tests.factories import make_trace
from tests.show.test_tables import with_pictures

STEPS = (0, 2)


def with_relevancy() -> Trace:
    """A trace that also holds relevancy at two steps: rising to the right for the cat, downwards for the balloon."""
    trace = make_trace(steps=6)
    across = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    values = np.stack([across, across.T])[None, None] * np.array([1, 3]).reshape(
        2, 1, 1, 1, 1
    )  # [step, image, word, y, x]
    coords = {"step": list(STEPS), "image": [0], "word": ["cat", "balloon"]}
    array = xr.DataArray(values, coords, ("step", "image", "word", "y", "x"), attrs={"units": "relevancy"})
    trace.tree["relevancy"] = xr.Dataset({"relevancy": array})
    return trace


@pytest.fixture
def several() -> str:
    return traces.save(with_relevancy())


def every_view(app: AppTest) -> list[dict]:
    return [json.loads(each.proto.json) for each in app.get("bidi_component")]


def cells(data: dict) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(data["maps"]), dtype="<f4")
    return values.reshape(len(data["words"]), *data["grid"])


def test_the_switch_lists_what_the_trace_holds_and_changes_the_map(several: str):
    app = page("explorer", trace=several)
    switch = app.selectbox(key=f"method:{several}")
    assert {"attention", "daam", "relevancy"} <= set(switch.options) and "guidance" not in switch.options
    assert viewed(app)["units"] is None  # shares of attention
    switch.set_value("relevancy").run()
    assert not app.exception and not app.error
    data = viewed(app)
    assert [word["label"] for word in data["words"]] == ["cat", "balloon"]
    assert data["units"] == "relevancy (gradient x attention)"
    np.testing.assert_allclose(cells(data)[0], 2 * np.tile(np.arange(8), (8, 1)))
    assert "cannot show what lowered the target" in markdown(app)


def test_two_methods_stand_side_by_side_and_the_second_follows(several: str):
    app = page("explorer", trace=several, word="balloon")
    app.selectbox(key=f"beside:{several}").set_value("relevancy").run()
    first, second = every_view(app)
    assert (first["follows"], second["follows"]) == (False, True)
    assert first["chosen"] == second["chosen"] == "balloon"
    assert first["units"] is None and second["units"] is not None


def test_a_step_that_a_method_did_not_look_at_is_said(several: str):
    app = page("explorer", trace=several, step="2")
    app.selectbox(key=f"method:{several}").set_value("relevancy").run()
    np.testing.assert_allclose(cells(viewed(app))[0], 3 * np.tile(np.arange(8), (8, 1)))
    app.select_slider[0].set_value("3").run()
    assert texts(app.info) == ["relevancy did not look at step 3; this is the mean over its steps."]


def test_the_tab_sets_all_side_by_side_and_says_what_is_missing(several: str):
    app = page("explorer", trace=several)
    app.session_state[f"tab:{several}"] = "Methods"
    app.run()
    assert not app.exception
    assert "Maps of cat, balloon by each method, side by side" in alts(app)
    absent = [method for method in METHODS if method.record and method.record != "Relevancy"]
    assert all(method.ask in plain(app) for method in absent)
    assert "probe.Relevancy()" not in plain(app)


def test_a_region_has_its_words(several: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    app = page("explorer", trace=several)
    app.session_state[f"tab:{several}"] = "A region"
    app.run()
    assert not app.exception
    assert app.dataframe[0].value["word"].tolist() == ["cat", "balloon"]  # top left
    app.slider(key=f"across:{several}").set_value((50, 100))
    app.slider(key=f"down:{several}").set_value((50, 100)).run()
    assert app.dataframe[0].value["word"].tolist() == ["balloon", "cat"]
    run(app.code[0].value, tmp_path, monkeypatch)
    assert pd.read_csv(tmp_path / "region.csv")["word"].tolist() == ["balloon", "cat"]
    app.slider(key=f"down:{several}").set_value((50, 50)).run()
    assert texts(app.info) == ["The region is empty: move its edges apart."]


def test_guidance_shows_curves_one_step_and_all(saved: str):
    app = page("guidance", trace=saved)
    assert not app.exception
    assert {"Where guidance pulled at step 0", "What the model predicted at step 0"} <= set(alts(app))
    app.select_slider[0].set_value(3).run()
    assert "Where guidance pulled at step 3" in alts(app)
    assert "What the model predicted at each step, and where guidance pulled" in alts(app)
    assert "probe.LeaveOneOut()" in plain(app)


def test_guidance_without_a_trace_lists_them_and_without_a_branch_says_so(saved: str):
    app = page("guidance")
    assert "a cat and a balloon" in texts(app.text)
    trace = make_trace(steps=2)
    del trace.tree["guidance"]
    app = page("guidance", trace=traces.save(trace))
    assert texts(app.info) == ["No guidance was recorded: the model ran without it, or in one pass."]
    assert texts(page("guidance", trace="nowhere-at-all").error) == ["The trace in the address cannot be opened."]


def test_faithfulness_not_measured_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ranking, "HOME", tmp_path)
    app = page("faithfulness")
    assert not app.exception
    assert texts(app.info) == ["Not measured yet with the weights of this version."]
    assert ranking.COMMAND in plain(app)
    assert {method.title.capitalize() for method in METHODS} <= {each.label for each in app.expander}


def test_faithfulness_measured_ranks_and_shows_where_each_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        (scope, method, measure, value, value - 0.1, value + 0.1, 8)
        for scope in ("all", "noun", "cat")
        for method, value in (("attention", 0.3), ("daam", 0.5))
        for measure in (ranking.OVERLAP, "precision", "deletion")
    ]
    columns = ["scope", "method", "measure", "mean", "low", "high", "count"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "table.csv", index=False)
    make_trace().pictures[0].save(ranking.examples("daam", tmp_path))
    monkeypatch.setattr(ranking, "HOME", tmp_path)
    app = page("faithfulness")
    assert not app.exception
    table = app.dataframe[0].value
    assert table.index.tolist() == ["daam", "attention"]
    assert table.columns.tolist() == [ranking.OVERLAP, "precision", "deletion"]
    assert "Four cases in which daam misses the mask" in alts(app)
    assert app.selectbox(key="scope").options == ["all pictures and words", "nouns", "only cat"]
    app.selectbox(key="scope").set_value("noun").run()
    assert not app.exception


def test_what_the_tab_gives_away_can_be_run(several: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(code.methods_code(opened(several), 0, ["cat"]), tmp_path, monkeypatch)
    written = pd.read_csv(tmp_path / "relevancy-cat.csv")["value"]
    assert written.to_numpy() == pytest.approx(probe.relevancy(with_relevancy(), "cat").values.values.ravel())
    assert (tmp_path / "methods.svg").is_file()


def test_tables_are_a_tab_of_the_explorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = traces.save(with_roles())
    app = page("explorer", trace=name)
    app.session_state[f"tab:{name}"] = "Tables"
    app.run()
    assert not app.exception and not app.error
    picked = app.selectbox(key=f"table:{name}")
    assert (
        "Which layers carry each word" in picked.options and "What each word adds to the guidance" not in picked.options
    )
    assert 'probe.Gradients(on="text")' in plain(app) and "probe.with_lens(trace" in plain(app)
    picked.set_value("Which layers carry each word").run()
    assert "Table: Which layers carry each word" in alts(app)
    run(code.table_code(opened(name), "ablation", 0), tmp_path, monkeypatch)
    assert {"ablation.svg", "ablation.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_the_pictures_of_a_lens_are_shown():
    name = traces.save(with_pictures())
    app = page("explorer", trace=name)
    app.session_state[f"tab:{name}"] = "Tables"
    app.run()
    assert not app.exception and any("number of layers of the text encoder" in alt for alt in alts(app))
