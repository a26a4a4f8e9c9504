"""The page Bias in a real Chromium: blank, then a study with its figure and chart, wide and narrow."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import SLOW, browser, visit
from tests.dashboards.test_bias import made
from tests.dashboards.test_browser import Open, folder, port, root_of_traces, settled, url

__all__ = ["browser", "folder", "port", "root_of_traces", "url", "visit"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_blank_then_a_study(visit: Open, url: str, folder: Path):
    page = visit(f"{url}/bias").page
    expect(page.get_by_text("probe bias run --seeds 0-199")).to_be_visible(timeout=SLOW)
    made().save(folder / "bias-of-the-day")
    for width, dark in ((1280, False), (400, True)):
        page = visit(f"{url}/bias", width=width, dark=dark).page
        expect(page.get_by_text("Classifier: HandReader")).to_be_visible(timeout=SLOW)
        chart = page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first
        expect(chart).to_be_visible(timeout=SLOW)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
