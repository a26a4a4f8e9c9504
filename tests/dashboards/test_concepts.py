"""Concepts: saved ones are listed and opened; words are turned and pictures pruned by the worker, from equal seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboards.shared import concepts, traces
from dashboards.shared.concepts import STEERED, TARGET, TURNED
from dashboards.shared.generation import worker
from probe.concepts.concept import CONCEPT, DECOMPOSITION, Concept
from tests import pipelines
from tests.concepts.conftest import small
from tests.dashboards.pages import SECONDS, alts, markdown, page, plain, texts

WORDS, VALUES = ("dog", "bear", "blue"), (0.6, 0.3, 0.1)


def made(prompt: str = "a red balloon", *, model: str = "menagerie", words: tuple[str, ...] = WORDS) -> Concept:
    picture = Image.new("RGB", (32, 32), "teal")
    shown = {CONCEPT: (picture,), DECOMPOSITION: (picture,), f"a {words[0]}": (picture,)}
    settings = {"solver": "sparse", **small().model_dump()}
    norms, told = {"text_encoder": 0.6}, {"model": model}
    return Concept(prompt, words, VALUES, norms, settings=settings, provenance=told, pictures=shown)


@pytest.fixture
def saved() -> str:
    """The id of a concept of the tiny pipeline."""
    return concepts.save(made(model=str(pipelines.folder("sd1"))))


def test_without_concepts_it_says_how_to_make_one():
    app = page("concepts")
    assert not app.exception
    assert texts(app.info) == ["There is no saved concept yet."]
    assert "probe concept" in plain(app)


def test_saved_concepts_are_listed(saved: str):
    made().save(traces.root() / "by-command" / "concept")
    app = page("concepts")
    assert not app.exception
    assert plain(app).count("a red balloon") == 2
    assert "dog, bear, blue" in plain(app)
    assert {link.proto.query_string for link in app.get("page_link")} == {f"concept={saved}", "concept=by-command"}


def test_one_concept_from_every_side(saved: str):
    app = page("concepts", concept=saved)
    assert not app.exception
    assert "a red balloon · sparse · 3 words" in plain(app)
    assert "Coefficients of the words of a red balloon; largest: dog, bear, blue" in alts(app)
    assert {"The concept: a red balloon, picture 1", "From its words: a red balloon, picture 1"} <= set(alts(app))
    assert "Picture of dog" in alts(app)
    assert [slider.label for slider in app.slider] == [*WORDS, "Strength"]
    assert "probe.Concept.open" in plain(app)


@pytest.mark.parametrize("name", ["no-such-concept", "../../etc", "x"])
def test_an_address_that_leads_nowhere(name: str):
    app = page("concepts", concept=name)
    assert not app.exception
    assert texts(app.error) == ["The concept in the address cannot be opened."]
    assert "no saved concept with this id" in plain(app)


def test_a_damaged_concept_is_said_so(saved: str):
    (concepts.place(saved) / "numbers.safetensors").write_bytes(b"no")
    app = page("concepts", concept=saved)
    assert not app.exception
    assert "numbers.safetensors has 2 bytes" in plain(app)


def test_foreign_words_are_never_markdown():
    words = ("![x](https://example.org/x.png)", "<img src=x onerror=alert(1)>", ":red[a]")
    app = page("concepts", concept=concepts.save(made("**bold** `c`", words=words)))
    assert not app.exception
    assert "![x](https" not in markdown(app)
    assert "<img" not in markdown(app)
    assert "**bold**" not in markdown(app)


def ended(app: AppTest, key: str) -> AppTest:
    """The page after its job has ended."""
    found = worker().job(app.session_state[key])
    assert found is not None
    assert found.wait(SECONDS)
    return app.run()


def test_a_word_is_turned_and_drawn_from_the_same_noise(saved: str):
    app = page("concepts", concept=saved)
    app.slider[0].set_value(-1.0)
    app = ended(app.button[0].click().run(), "turning")
    assert not app.exception
    assert texts(app.success) == ["Drawn from the same noise, and saved on this machine."]
    (name,) = set(concepts.names()) - {saved}
    turned = concepts.opened(name)
    assert turned.coefficients == (-0.6, 0.3, 0.1)
    before, after = (np.asarray(turned.pictures[kind][0]) for kind in (DECOMPOSITION, "turned"))
    assert not np.array_equal(before, after)


def test_the_words_that_one_picture_needs(saved: str):
    app = page("concepts", concept=saved)
    app = ended(app.button[1].click().run(), "pruning")
    assert not app.exception
    (name,) = set(concepts.names()) - {saved}
    left = concepts.opened(name)
    assert set(left.words) | set(left.provenance["removed"]) == set(WORDS)
    assert texts(app.success) == [f"{len(left.words)} words are enough; {3 - len(left.words)} went."]


def test_a_prompt_is_steered_along_a_concept(saved: str):
    app = page("concepts", concept=saved)
    app.slider(key=f"strength:{saved}").set_value(3.0)
    app = ended(app.button[2].click().run(), "steering")
    assert not app.exception
    (name,) = set(concepts.names()) - {saved}
    plain_one, steered = (np.asarray(concepts.opened(name).pictures[kind][0]) for kind in ("before", "steered"))
    assert not np.array_equal(plain_one, steered)
    assert "a house · strength 3.0 · away from a photo of a thing" in plain(app)
    assert "Steered: a house, steered along a red balloon, picture 1" in alts(app)


def test_steered_pictures_name_the_prompt_and_the_concept():
    picture, told = (Image.new("RGB", (32, 32), "teal"),), {"steered": {"prompt": "a house"}}
    held = replace(made(), pictures={TARGET: picture, STEERED: picture}, provenance=told)
    app, along = page("concepts", concept=concepts.save(held)), "a house, steered along a red balloon"
    assert not app.exception
    assert {"Before: a house, picture 1", f"Steered: {along}, picture 1"} <= set(alts(app))
    assert f"{along} · sparse · 3 words" in plain(app)
    assert f"Picture of {along}" in alts(page("concepts"))
    turned = replace(held, pictures={TURNED: picture, TARGET: picture}, provenance={})
    assert [concepts.subject(turned, kind) for kind in (TURNED, TARGET)] == ["a red balloon"] * 2


def test_a_model_that_is_not_here_is_not_fetched():
    app = page("concepts", concept=concepts.save(made(model="owner/name")))
    app = ended(app.button[0].click().run(), "turning")
    assert texts(app.error) == ["This could not be drawn. Your settings are still above."]
    assert "there is no folder 'owner/name' on this machine" in plain(app)


def test_links_in_the_folder_are_not_followed(saved: str, tmp_path: Path):
    (traces.root() / "linked").symlink_to(concepts.place(saved))
    assert concepts.names() == [saved]
