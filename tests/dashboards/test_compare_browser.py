"""The page Compare in a real Chromium: blank, then two traces with a word's maps, wide and narrow, light and dark."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import SLOW, browser, visit
from tests.dashboards.test_browser import Open, folder, port, root_of_traces, settled, url
from tests.factories import make_trace

__all__ = ["browser", "folder", "port", "root_of_traces", "url", "visit"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
NAMES = ("first-seed-000000", "second-seed-000000")


def test_blank_then_two_traces(visit: Open, url: str, folder: Path):
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
