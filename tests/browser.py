"""A real Chromium for tests. It keeps what a page asked of other machines and complained about, so that tests can look.

Import the fixtures `browser`, `looks` and `visit` in a test file, and mark its tests with `pytest.mark.browser`.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
REMEDY = "no Chromium on the path; install it with your system's packages, e.g. sudo apt-get install chromium"
LOCAL = ("127.0.0.1", "localhost")
SLOW = 90_000  # milliseconds that a step may take on a busy machine


@dataclass
class Visit:
    """A page in the browser, what it asked of other machines, and what went wrong in it."""

    page: Page
    abroad: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.set_default_timeout(SLOW)
        self.page.on("request", self._asked)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._opened)

    def _asked(self, request: Request) -> None:
        place = urlsplit(request.url)
        if place.scheme in ("http", "https", "ws", "wss") and place.hostname not in LOCAL:
            self.abroad.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        known = "/_stcore/" in message.location.get("url", "")  # Streamlit asks a page's address for its server first
        if message.type == "error" and not known:
            self.errors.append(message.text)

    def _opened(self, dialog: Dialog) -> None:
        self.errors.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser, or a skip that says how to install it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(REMEDY)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def looks(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Gives the context of a size and a scheme; visits of the same look share it, so that scripts are fetched once."""
    made: dict[tuple[int, int, bool], BrowserContext] = {}

    def context(width: int, height: int, dark: bool) -> BrowserContext:
        if (width, height, dark) not in made:
            scheme = "dark" if dark else "light"
            size = {"width": width, "height": height}
            made[width, height, dark] = browser.new_context(viewport=size, color_scheme=scheme)
        return made[width, height, dark]

    yield context
    for each in made.values():
        each.close()


@pytest.fixture
def visit(looks: Callable[..., BrowserContext]) -> Iterator[Callable[..., Visit]]:
    """Opens an address in a page of its own: `visit(url, width=1280, height=900, dark=False)`.

    After the test: nothing was asked of another machine, and nothing went wrong in the page.
    """
    opened: list[Visit] = []

    def open_page(url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Visit:
        made = Visit(looks(width, height, dark).new_page())
        opened.append(made)
        made.watch()
        made.page.goto(url)
        return made

    yield open_page
    for made in opened:
        made.page.close()
    for made in opened:
        assert made.abroad == []
        assert made.errors == []
