"""The page Concepts in a real Chromium: from the list to a concept with its bars and sliders."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboards.shared import concepts
from tests import pipelines
from tests.browser import SLOW, browser, visit
from tests.dashboards.test_browser import Open, folder, port, root_of_traces, url
from tests.dashboards.test_concepts import made

__all__ = ["browser", "folder", "port", "root_of_traces", "url", "visit"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_a_concept_is_opened_from_the_list(visit: Open, url: str, folder: Path):
    concepts.save(made(model=str(pipelines.folder("sd1"))))
    page = visit(f"{url}/concepts").page
    page.get_by_role("link", name="Open").click()
    expect(page.get_by_text("a red balloon · sparse · 3 words")).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("slider").first).to_be_visible(timeout=SLOW)
    expect(page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first).to_be_visible(
        timeout=SLOW
    )
    expect(page.get_by_role("button", name="Draw again")).to_be_visible(timeout=SLOW)
