"""The dashboard as a visitor has it: served by `probe dashboard`, in a real Chromium, with nothing but this machine."""

import base64
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from playwright.sync_api import Page, expect

from dashboards.shared import traces
from tests import pipelines
from tests.browser import SLOW, Visit, browser, looks, visit
from tests.dashboards.test_methods import with_relevancy
from tests.factories import make_trace
from tests.show.hostile import WORDS

__all__ = ["browser", "looks", "visit"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
Open = Callable[..., Visit]
ONE = "?trace=a-cat-and-a-balloon-000000"
BLANK = ("", "generate", "nurse", "explorer", "faithfulness", "compare", "concepts", "bias")
PLACES = (*BLANK, f"guidance{ONE}", f"explorer{ONE}")
TABS = ("Maps", "Methods", "A region", "Over the steps", "Guidance", "Numbers", "Settings")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of traces that the server serves."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(autouse=True)
def root_of_traces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tests save where the server looks."""
    monkeypatch.setenv(traces.VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def port(folder: Path, root: Path) -> Iterator[int]:
    """The port of a running `probe dashboard`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = free.getsockname()[1]
    command = [sys.executable, "-m", "probe.cli", "dashboard", "--folder", str(folder), "--port", str(chosen)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with (folder.parent / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        wait_for(chosen)
        yield chosen
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + SLOW / 1000
    while time.monotonic() < deadline:
        try:
            if ask(port, "/_stcore/health") == 200:
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"the dashboard did not answer on port {port}")


def ask(port: int, path: str, **headers: str) -> int:
    """The status of the answer to a request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        with closing(connection.getresponse()) as answer:
            return answer.status


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def drawn(folder: Path) -> str:
    """A saved trace of "a cat and a balloon"."""
    name = "a-cat-and-a-balloon-000000"
    make_trace(steps=6).save(folder / name)
    return name


def look(page: Page) -> str:
    """A fingerprint of the map over the picture; the same map has the same."""
    drawing = page.locator("canvas#map").evaluate("canvas => canvas.toDataURL()")
    return hashlib.sha256(base64.b64decode(drawing.partition(",")[2])).hexdigest()


def settled(page: Page) -> None:
    """Wait until nothing is being computed or loaded."""
    for waiting in ("stStatusWidget", "stSkeleton", "stSpinner"):
        expect(page.get_by_test_id(waiting)).to_have_count(0, timeout=SLOW)


def word(page: Page, text: str) -> Page:
    return page.locator("#prompt").get_by_role("button", name=text, exact=True)


def shown(page: Page) -> None:
    """Wait for the viewer."""
    expect(page.locator("#ranking button").first).to_be_visible(timeout=SLOW)


def test_a_prompt_becomes_a_picture_and_a_trace_to_explore(visit: Open, url: str):
    page = visit(f"{url}/generate").page
    page.get_by_text("Another model").click()
    page.get_by_role("textbox", name="Folder of a diffusers pipeline").fill(str(pipelines.folder("sd1")))
    page.get_by_role("spinbutton", name="Steps").fill("30")
    page.get_by_role("button", name="Generate and trace").click()
    expect(page.get_by_text(re.compile(r"step \d+ of 30"))).to_be_visible(timeout=6 * SLOW)
    expect(page.get_by_text("Done, and saved on this machine.")).to_be_visible(timeout=6 * SLOW)
    shown(page)
    page.get_by_role("link", name="Open in the Explorer").click()
    expect(page.get_by_role("heading", name="Explorer")).to_be_visible()
    shown(page)
    assert "trace=a-cat-and-a-red-balloon-" in page.url


def test_a_prompt_is_drawn_plain_and_nursed_and_both_lead_to_the_explorer(visit: Open, url: str):
    page = visit(f"{url}/nurse").page
    page.get_by_text("Another model").click(timeout=6 * SLOW)  # the methods are looked up first
    page.get_by_role("textbox", name="Folder of a diffusers pipeline").fill(str(pipelines.folder("sd1")))
    page.get_by_role("spinbutton", name="Steps").fill("6")
    page.get_by_role("button", name="Draw plain and nursed").click()
    expect(page.get_by_text("Done, and both records are saved on this machine.")).to_be_visible(timeout=6 * SLOW)
    expect(page.get_by_role("heading", name="AttendAndExcite")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^dog: \w+"))).to_have_count(2)
    expect(page.get_by_role("img", name=re.compile("The picture before and after"))).to_be_visible(timeout=SLOW)
    page.get_by_role("link", name="Open in the Explorer").first.click()
    expect(page.get_by_role("heading", name="Explorer")).to_be_visible()
    shown(page)


def test_hovering_a_word_changes_the_map_and_the_slider_changes_the_step(visit: Open, url: str, drawn: str):
    page = visit(f"{url}/explorer?trace={drawn}").page
    shown(page)
    settled(page)
    cat = look(page)
    word(page, "balloon").hover()
    assert look(page) != cat
    expect(page.locator("#subject")).to_have_text("balloon: strongest bottom right")
    page.mouse.move(0, 0)
    assert look(page) == cat
    page.get_by_role("slider", name="Step").press("ArrowRight")
    page.wait_for_url("**step=0**")
    expect(page.locator("#subject")).to_have_text("cat: strongest top left")
    changed(page, cat)


def changed(page: Page, before: str) -> None:
    """Wait until the map is another."""
    deadline = time.monotonic() + SLOW / 1000
    while look(page) == before and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert look(page) != before


def test_pointing_at_a_cell_ranks_the_words_there(visit: Open, url: str, drawn: str):
    page = visit(f"{url}/explorer?trace={drawn}").page
    shown(page)
    settled(page)
    frame = page.locator("#frame")
    box = frame.bounding_box()
    assert box is not None
    for share, first in (((0.25, 0.3), "cat"), ((0.75, 0.7), "balloon")):  # x, y of the words' discs
        page.mouse.move(box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"])
        expect(page.locator("#ranking button").first).to_contain_text(first)
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.7 * box["height"])
    page.mouse.move(0, 0)
    expect(page.locator("#heading")).to_have_text("Words at row 12, column 13")
    frame.focus()
    page.keyboard.press("Escape")
    expect(page.locator("#heading")).to_have_text("Words, over the whole picture")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#heading")).to_have_text("Words at row 8, column 9")
    expect(page.locator("#live")).to_contain_text("Words at row 8, column 9: ")


def test_two_methods_stand_side_by_side_and_the_second_follows(visit: Open, url: str, folder: Path):
    name = "two-methods-000000"
    with_relevancy().save(folder / name)
    page = visit(f"{url}/explorer?trace={name}", width=1280).page
    shown(page)
    settled(page)
    page.get_by_role("combobox", name="Beside it").click()
    page.get_by_role("option", name="relevancy").click()
    expect(page.locator(".viewer")).to_have_count(2, timeout=SLOW)
    first, second = page.locator(".viewer").nth(0), page.locator(".viewer").nth(1)
    expect(second.locator("#units")).to_have_text("relevancy (gradient x attention)")
    first.locator("#prompt").get_by_role("button", name="balloon").click()
    chosen = second.locator("#prompt").get_by_role("button", name="balloon")
    expect(chosen).to_have_attribute("aria-pressed", "true", timeout=SLOW)
    expect(second.locator("#subject")).to_have_text(re.compile("balloon: strongest bottom"))
    frame = second.locator("#frame").bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + 0.9 * frame["width"], frame["y"] + 0.1 * frame["height"])  # far right, high up
    expect(second.locator("#ranking button").first).to_contain_text("cat")


def test_a_deep_link_and_the_keyboard_choose_a_word(visit: Open, url: str, drawn: str):
    page = visit(f"{url}/explorer?trace={drawn}&word=balloon&step=3").page
    shown(page)
    settled(page)
    expect(word(page, "balloon")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("stSidebarNav").get_by_role("link", name="Generate & trace")).to_be_visible()
    word(page, "cat").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**word=cat**")
    expect(word(page, "cat")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#subject")).to_have_text("cat: strongest top left")


def test_a_card_opens_its_trace_and_leads_back(visit: Open, url: str, drawn: str):
    page = visit(f"{url}/explorer").page
    page.locator(f"a[href*='{drawn}']").click()
    shown(page)
    page.get_by_role("link", name="All traces").click()
    expect(page.get_by_text("Your saved traces.")).to_be_visible(timeout=SLOW)


def test_a_figure_can_be_taken_away(visit: Open, url: str, drawn: str, tmp_path: Path):
    page = visit(f"{url}/explorer?trace={drawn}").page
    shown(page)
    settled(page)
    for name, start in (("Figure (SVG)", b"<?xml"), ("Data (Parquet)", b"PAR1")):
        with page.expect_download(timeout=SLOW) as waiting:
            page.get_by_role("button", name=name).click()
        waiting.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes().startswith(start)


def test_hostile_words_are_only_text(visit: Open, url: str, folder: Path):
    name = "hostile-words-000000"
    shutil.rmtree(folder / name, ignore_errors=True)
    make_trace(words=WORDS, steps=2).save(folder / name)
    danger = quote("![p](https://example.org/p.png)<img src=x onerror=alert(1)>")
    page = visit(f"{url}/explorer?trace={name}&word={danger}&step={danger}").page
    shown(page)
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        settled(page)
        assert page.locator("img[src='x'], img[src*='example.org'], a[href*='example.org']").count() == 0
    said = page.locator("#prompt").text_content()
    assert said == " and ".join(f"a {each}" for each in WORDS)
    page.goto(f"{url}/explorer?trace={danger}")
    expect(page.get_by_text("this is not the id of a trace")).to_be_visible(timeout=SLOW)


def test_it_listens_on_this_machine_only_and_refuses_other_names(port: int, url: str):
    heard = {
        each.laddr.ip for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port
    }
    assert heard == {"127.0.0.1"}
    assert greeting(port, f"127.0.0.1:{port}") == 101
    assert greeting(port, "evil.example") == 403


def greeting(port: int, host: str) -> int:
    """What the server answers to a page that wants to talk under a host's name."""
    keys = {"Sec_WebSocket_Key": base64.b64encode(b"0" * 16).decode(), "Sec_WebSocket_Version": "13"}
    upgrade = {"Host": host, "Connection": "Upgrade", "Upgrade": "websocket", "Origin": f"http://{host}"}
    return ask(port, "/_stcore/stream", **upgrade, **keys)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
@pytest.mark.parametrize("place", PLACES)
def test_pages_fit_the_window_and_axe_is_content(visit: Open, url: str, drawn: str, place: str, width: int, dark: bool):
    page = visit(f"{url}/{place}", width=width, dark=dark).page
    expect(page.get_by_role("heading").first).to_be_visible(timeout=SLOW)
    if place == f"explorer?trace={drawn}":
        shown(page)
        assert page.locator(".viewer").evaluate("each => each.scrollWidth <= each.clientWidth")
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    assert [(each["id"], node["html"]) for each in found for node in each["nodes"] if grave(each, node)] == []


def grave(violation: dict[str, Any], node: dict[str, Any]) -> bool:
    """Whether it is critical or serious, or in the viewer, which is ours: its nodes are found through a shadow root."""
    return violation["impact"] in ("critical", "serious") or isinstance(node["target"][0], list)
