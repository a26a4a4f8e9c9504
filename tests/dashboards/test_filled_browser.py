"""Pages that begin blank in a real Chromium, and what they show once there is something, wide and narrow, light and
dark: Compare with two traces, Bias with a study, Concepts with a concept. One server serves all of them."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboards.shared import concepts
from tests import pipelines
from tests.browser import SLOW, browser, looks, visit
from tests.dashboards.test_bias import made as made_study
from tests.dashboards.test_browser import Open, folder, port, root_of_traces, settled, url
from tests.dashboards.test_concepts import made as made_concept
from tests.factories import make_trace

__all__ = ["browser", "folder", "looks", "port", "root_of_traces", "url", "visit"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
NAMES = ("first-seed-000000", "second-seed-000000")
CHART = "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"


def test_compare_is_blank_then_shows_two_traces(visit: Open, url: str, folder: Path):
    page = visit(f"{url}/compare").page
    expect(page.get_by_text("There are fewer than two saved traces.")).to_be_visible(timeout=SLOW)
    for seed, name in enumerate(NAMES):
        make_trace(steps=3, seed=seed, words=("cat", "balloon") if seed else ("balloon", "cat")).save(folder / name)
    for width, dark in ((1280, False), (400, True)):
        address = f"{url}/compare?first={NAMES[0]}&second={NAMES[1]}&word=balloon"
        page = visit(address, width=width, dark=dark).page
        figure = page.get_by_role("img", name="The maps of balloon in the first and of balloon in the second trace")
        expect(figure).to_be_visible(timeout=SLOW)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("slider", name="Step").press("ArrowRight")
    page.wait_for_url("**step=0**")
    expect(page.get_by_role("heading", name="Over the steps")).to_be_visible(timeout=SLOW)


def test_bias_is_blank_then_shows_a_study(visit: Open, url: str, folder: Path):
    page = visit(f"{url}/bias").page
    expect(page.get_by_text("probe bias run --seeds 0-199")).to_be_visible(timeout=SLOW)
    made_study().save(folder / "bias-of-the-day")
    for width, dark in ((1280, False), (400, True)):
        page = visit(f"{url}/bias", width=width, dark=dark).page
        expect(page.get_by_text("Classifier: HandReader")).to_be_visible(timeout=SLOW)
        expect(page.locator(CHART).first).to_be_visible(timeout=SLOW)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_concept_is_opened_from_the_list(visit: Open, url: str):
    concepts.save(made_concept(model=str(pipelines.folder("sd1"))))
    page = visit(f"{url}/concepts").page
    page.get_by_role("link", name="Open").click()
    expect(page.get_by_text("a red balloon · sparse · 3 words")).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("slider").first).to_be_visible(timeout=SLOW)
    expect(page.locator(CHART).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="Draw again")).to_be_visible(timeout=SLOW)
