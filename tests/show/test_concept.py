"""A concept in the report: numbers are the concept's, pictures are carried, words stay words, the page fits."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from probe.concepts.card import card
from probe.concepts.concept import Concept
from probe.errors import OutputError
from probe.show import ConceptCard, Story, concept_report, render_concept, render_report
from probe.show.facts import percent
from tests.browser import Visit, browser, looks, visit
from tests.factories import make_trace
from tests.show.hostile import WORDS
from tests.show.test_report import Page

__all__ = ["browser", "looks", "visit"]
Open = Callable[..., Visit]


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (96, 96), colour)


def concept(**more: Any) -> Concept:
    pictures = {
        "concept": (picture("red"), picture("blue")),
        "decomposition": (picture("green"), picture("white")),
        "a dog": (picture("brown"),),
    }
    told = {"model": "menagerie", "vocabulary": 9, "measures": {"cosine": 0.75, "kid": -0.002, "pictures": 2}}
    given: dict[str, Any] = {
        "settings": {"solver": "sparse", "seed": 0},
        "provenance": told,
        "pictures": pictures,
    } | more
    return Concept("a pet", ("dog", "cat", "fish"), (0.5, -0.25, 0.25), {"text_encoder": 1.0}, **given)


def test_words_have_their_coefficients_shares_and_bars():
    page = Page(render_concept(card(concept())))
    assert page.texts["h1"] == ["a pet"]
    assert [text for text in page.texts["th"] if text.strip()][5:8] == ["dog", "fish", "cat"]
    numbers = [text for text in page.texts["td"] if text.strip()]
    assert numbers[:6] == [text for value in (0.5, 0.25, -0.25) for text in (f"{value:g}", percent(value))]
    assert [rect["width"] for rect in page.all("rect")] == ["100.0", "50.0", "50.0"]
    assert [svg["class"] for svg in page.all("svg")] == ["bar", "bar", "bar against"]


def test_measures_say_how_they_are_read_and_over_how_many_pictures():
    page = Page(render_concept(card(concept())))
    assert "How good is it? Over 2 pictures a side" in page.texts["h3"]
    assert [text for text in page.texts["th"] if text in ("CLIP cosine", "KID", "stability")] == ["CLIP cosine", "KID"]
    assert "0.750" in page.texts["td"] and "-0.002" in page.texts["td"]
    assert "Not measured" in render_concept(card(concept(provenance={})))


def test_pictures_are_carried_with_what_they_show():
    shown = [image["alt"] for image in Page(render_concept(card(concept()))).all("img")]
    assert shown == [
        *(f"The concept, as the model draws it: a pet, picture {i}" for i in (1, 2)),
        *(f"Its words, mixed, from the same noise: a pet, picture {i}" for i in (1, 2)),
        "Picture of dog",
    ]
    assert Page(render_concept(card(concept(pictures={})))).all("img") == []


def test_many_words_are_cut_and_the_rest_is_counted():
    many = [(f"word{i}", 1.0, 1 / 25) for i in range(25)]
    page = Page(render_concept(ConceptCard("a pet", many)))
    assert "5 more" in page.texts["th"] and "20\N{NO-BREAK SPACE}%" in page.texts["td"]


def test_words_stay_words_and_nothing_points_anywhere():
    held = ConceptCard(WORDS[4], [(word, 1.0, 0.1) for word in WORDS], lists={"Run": [("model", WORDS[3])]})
    text = render_concept(held)
    page = Page(text)
    assert page.texts["h1"] == [WORDS[4]]
    assert [word for word in WORDS if word not in page.texts["th"]] == []
    assert not re.search(r"https?:(?!//example.org)|@import|url\(|fetch\(", text)
    assert not any(name.startswith("on") or name == "style" for _, tags in page.tags for name in tags)


def test_it_is_a_section_of_the_report_of_a_trace():
    page = Page(render_report(make_trace(), story=Story(concept=card(concept()))))
    assert "What the model means by “a pet”" in page.texts["h2"]
    assert "What the model means by" not in render_report(make_trace())


def test_a_concept_writes_its_page_once(tmp_path: Path):
    path = concept().report(tmp_path / "pet.html")
    assert path.read_text(encoding="utf-8") == render_concept(card(concept()))
    with pytest.raises(OutputError, match=r"pet.html exists already; choose another path, or give exist_ok=True"):
        concept_report(card(concept()), path)
    concept().report(path, exist_ok=True)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)])
def test_it_fits_a_screen_and_shows_its_pictures(visit: Open, tmp_path: Path, width: int, dark: bool):
    page = visit(concept().report(tmp_path / "pet.html").as_uri(), width=width, dark=dark).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
    assert page.locator(".bar rect").first.evaluate("each => each.getBoundingClientRect().width") > 50
