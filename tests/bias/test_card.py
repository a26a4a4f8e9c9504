"""The report of a bias study: numbers are the audit's, figures are carried, words stay words."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import probe
from probe.bias import LIMITS
from probe.bias.card import card
from probe.bias.report import SENSITIVE, number, span
from probe.bias.tables import Known
from probe.errors import OutputError
from probe.show import AuditCard, AuditPart, Sheet, render_audit, share_panels
from probe.show.evaluation import Interval
from probe.show.shares import SharePanel
from tests.bias.test_audits import ERROR, LABELS, REFERENCE, rows
from tests.bias.test_inside import rows as recorded
from tests.browser import Visit, browser, looks, visit
from tests.show.hostile import WORDS
from tests.show.test_report import Page

__all__ = ["browser", "looks", "visit"]


@pytest.fixture(scope="module")
def audit() -> probe.bias.Audit:
    table = rows().assign(clip_full=lambda each: each["guidance"] / 10 + each["seed"] / 1000)
    return probe.bias.tidy(table, Known(LABELS, {"gender": ERROR}, REFERENCE))


def cells(page: Page) -> list[str]:
    return [text.strip() for text in page.texts["td"]]


def test_who_read_the_pictures_comes_before_what_was_read(audit: probe.bias.Audit):
    text = render_audit(card(audit))
    page = Page(text)
    assert page.texts["h1"] == ["Perceived gender and tone: doctor, artist, scientist"]
    assert text.index("A note first") < text.index("<img") and SENSITIVE.split(";")[0] in text
    assert "reads 92.5% of the labels rightly" in text and "its error is not known, so nothing is corrected" in text
    assert "true (down), read (across)" in text
    assert all(limit in text for limit in (each.replace("'", "&#39;") for each in LIMITS))


def test_the_numbers_are_the_audits(audit: probe.bias.Audit):
    shown = cells(Page(render_audit(card(audit))))
    row = audit.shares.query("group == 'doctor' and guidance == 5 and label == 'man'").iloc[0]
    assert span(row["corrected"], row["corrected_low"], row["corrected_high"]) in shown
    assert number(row["reference"]) == "0.700" and "0.700" in shown
    mean = audit.overall.query("guidance == 5").iloc[0]
    assert span(mean["change"], mean["change_low"], mean["change_high"], "+") in shown
    cost = audit.costs.query("guidance == 5").iloc[0]
    assert span(cost["difference"], cost["low"], cost["high"], "+") in shown and cost["difference"] == pytest.approx(
        0.4
    )


def test_inside_and_outside_are_linked_where_it_was_recorded(audit: probe.bias.Audit):
    assert Page(render_audit(card(audit))).texts["h2"] == ["gender", "tone", "What it costs", "What this does not show"]
    linked = probe.bias.tidy(recorded(), Known({"gender": ("man", "woman")}))
    page = Page(render_audit(card(linked)))
    row = linked.inside.query("group == '(all)'").iloc[0]
    assert "Internal measures" in page.texts["h2"]
    assert span(row["difference"], row["low"], row["high"], "+") in cells(page)


def test_figures_are_carried_and_described(audit: probe.bias.Audit):
    page = Page(render_audit(card(audit)))
    images = page.all("img")
    assert [str(image["alt"]).split(" by ")[0] for image in images] == ["Shares of gender", "Shares of tone"]
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in images)


def test_words_stay_words_and_nothing_points_anywhere():
    figure = share_panels([SharePanel("share", {"m": [Interval("a", 0.5, 0.4, 0.6)]})])
    sheets = [Sheet(WORDS[3], WORDS[:2], [WORDS[:2]], WORDS[4])]
    part = AuditPart(WORDS[0], WORDS[1], figure, WORDS[2], WORDS[3], sheets)
    text = render_audit(AuditCard(WORDS[4], WORDS[0], WORDS[1], [part], sheets, WORDS))
    page = Page(text)
    assert page.texts["h1"] == [WORDS[4]] and [word for word in WORDS if word not in page.texts["li"]] == []
    assert not re.search(r"https?:(?!//example.org|//www.w3.org)|@import|url\(|fetch\(", text)
    assert not any(name.startswith("on") or name == "style" for _, tags in page.tags for name in tags)


def test_a_page_is_written_whole_and_replaces_nothing_unasked(audit: probe.bias.Audit, tmp_path: Path):
    path = audit.report(tmp_path / "report.html")
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(OutputError, match="exists already"):
        audit.report(path)
    audit.report(path, exist_ok=True)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)])
def test_it_fits_a_screen_and_shows_its_figures(
    visit: Callable[..., Visit], audit: probe.bias.Audit, tmp_path: Path, width: int, dark: bool
):
    page = visit(audit.report(tmp_path / "bias.html").as_uri(), width=width, dark=dark).page
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
