"""The report in a real browser: words, slider and pointer work, by mouse and by keyboard, without a request."""

import hashlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from probe.explain.attention import attention
from probe.show import report
from probe.show.facts import percent
from probe.trace import Trace
from tests.factories import make_trace
from tests.show.hostile import WORDS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def trace() -> Trace:
    return make_trace(steps=6, words=("cat", "red", "balloon"))


@pytest.fixture(scope="module")
def file(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(trace, tmp_path_factory.mktemp("report") / "report.html")


class Watch:
    """What a page asks of the network and says on the console."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))

    @property
    def abroad(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("file:", "data:"))]


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The report, open; afterwards: no request left the file, nothing was said on the console."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    watch = Watch(opened)
    opened.goto(file.as_uri())
    opened.wait_for_selector("html[data-ready]")
    yield opened
    opened.close()
    assert watch.abroad == []
    assert watch.said == []


def look(page: Page, canvas: str = "#heat") -> str:
    """A fingerprint of what a canvas shows."""
    return hashlib.sha256(page.eval_on_selector(canvas, "canvas => canvas.toDataURL()").encode()).hexdigest()


def to_step(page: Page, step: int) -> None:
    page.locator("#step").fill(str(step))


def test_hovering_a_word_shows_its_map_and_leaving_takes_it_away(page: Page, trace: Trace):
    first = look(page)
    page.get_by_role("button", name="red").hover()
    assert look(page) != first
    heatmap = attention(trace, "red")
    most, mean = float(heatmap.values.max()), float(heatmap.values.mean())
    shares = f"{percent(mean)} of the attention on average, strongest at bottom with {percent(most)}."
    said = f"“red”, mean over all 6 steps: {shares}"
    expect(page.get_by_role("status")).to_have_text(said)
    expect(page.locator("#heat")).to_have_attribute("aria-label", f"Heat map of {said}")
    page.get_by_role("heading", level=1).hover()
    assert look(page) == first


def test_the_slider_moves_the_map_the_prediction_and_the_numbers(page: Page, trace: Trace):
    every, final = look(page), look(page, "#predicted")
    to_step(page, 0)
    early, drawn = look(page), look(page, "#predicted")
    assert early != every
    assert drawn != final
    expect(page.locator("#predicted-caption")).to_have_text("What the model predicted at step 0")
    expect(page.locator("#step-name")).to_have_text("0 (timestep 981)")
    expect(page.locator("#step")).to_have_attribute("aria-valuetext", "step 0")
    expect(page.locator("#all")).not_to_be_checked()
    expect(page.locator("#curve-say")).to_contain_text(
        "Step 0: norm of the difference 3, cosine with the step before none"
    )
    page.locator("#all").check()
    assert look(page) == every


def test_a_click_keeps_a_word_and_another_click_lets_it_go(page: Page):
    red = page.get_by_role("button", name="red")
    red.click()
    page.get_by_role("heading", level=1).hover()
    expect(red).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#stage-caption")).to_contain_text("“red” over the picture")
    red.click()
    page.get_by_role("heading", level=1).hover()
    expect(page.locator("#stage-caption")).to_have_text("The picture")
    expect(page.locator("#heat")).to_have_css("opacity", "0")


def test_everything_is_reached_by_keyboard(page: Page):
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert order[1:] == [
        *("stage", "cat", "red", "balloon", "<start>", "<end>", "<padding>"),
        *("step", "all", "play", "shared", "smooth", "opacity"),
    ]
    page.get_by_role("button", name="red").focus()
    expect(page.locator("#stage-caption")).to_contain_text("“red”")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="red")).to_have_attribute("aria-pressed", "true")
    page.locator("#step").focus()
    page.keyboard.press("Home")
    expect(page.locator("#step-name")).to_contain_text("0 (")
    page.keyboard.press("Escape")
    expect(page.locator("#stage-caption")).to_have_text("The picture")


def test_pointing_at_a_place_lists_its_words(page: Page, trace: Trace):
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 10.5 / 16, box["y"] + box["height"] * 4.5 / 16)
    expect(page.locator("#place-title")).to_have_text("Words at row 5 of 16, column 11 of 16")
    shares = {word: float(attention(trace, word).values[4, 10]) for word in ("cat", "red", "balloon")}
    best = max(shares, key=lambda word: shares[word])
    expect(page.locator("#place li").first).to_contain_text(best)
    page.locator("#stage").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#place-title")).to_have_text("Words at row 6 of 16, column 11 of 16")


def test_scales_are_shared_or_own(page: Page, trace: Trace):
    words = ("cat", "red", "balloon")
    maps = {word: attention(trace, word).values for word in words}
    page.get_by_role("button", name="red").click()
    expect(page.locator("#high")).to_have_text(percent(max(float(field.max()) for field in maps.values())))
    expect(page.locator("#low")).to_have_text(percent(min(float(field.min()) for field in maps.values())))
    page.locator("#shared").uncheck()
    expect(page.locator("#high")).to_have_text(percent(float(maps["red"].max())))
    expect(page.locator("#low")).to_have_text(percent(float(maps["red"].min())))


def test_the_cells_can_be_seen_unsmoothed(page: Page):
    smooth = look(page)
    page.locator("#smooth").uncheck()
    assert look(page) != smooth
    row = page.eval_on_selector("#heat", "c => Array.from(c.getContext('2d').getImageData(0, 64, 16, 1).data)")
    pixels = [tuple(row[i : i + 4]) for i in range(0, 64, 4)]
    assert len(set(pixels[:8])) == len(set(pixels[8:])) == 1, "a cell of 8 pixels has one colour"


def test_play_goes_through_the_steps_and_stops(page: Page):
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=10_000)
    expect(page.locator("#step-name")).to_contain_text("5 (")


def test_the_curves_have_numbers_under_the_pointer(page: Page):
    curves = page.locator("#curves svg")
    curves.scroll_into_view_if_needed()
    box = curves.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 16, box["y"] + 80)
    expect(page.locator("#curve-say")).to_contain_text(
        "Step 5: norm of the difference 1.2, cosine with the step before 0.9"
    )
    page.mouse.click(box["x"] + 48, box["y"] + 80)
    expect(page.locator("#step-name")).to_contain_text("0 (")


@pytest.mark.parametrize("width", [1280, 640, 375, 320])
def test_nothing_is_cut_off_at_any_width(page: Page, width: int):
    """640 is 1280 at 200 % zoom; 320 is what WCAG asks for."""
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    late = page.eval_on_selector_all(
        "svg text", "texts => texts.filter(t => t.getBoundingClientRect().right > innerWidth).length"
    )
    assert late == 0


def test_hostile_words_run_nothing_and_fetch_nothing(browser: Browser, tmp_path: Path):
    trace = make_trace(words=WORDS)
    opened = browser.new_page(viewport={"width": 375, "height": 800})
    watch = Watch(opened)
    opened.goto(report(trace, tmp_path / "report.html").as_uri())
    opened.wait_for_selector("html[data-ready]")
    for word in opened.locator(".word").all():
        word.focus()
    assert opened.locator("h1").text_content() == trace.prompt
    assert (opened.locator("img").count(), opened.locator("script").count()) == (1, 2)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 375
    assert (watch.abroad, watch.said) == ([], [])
    opened.close()


def test_the_policy_stops_what_is_not_its_own(browser: Browser, file: Path, tmp_path: Path):
    tampered = tmp_path / "tampered.html"
    injected = "<img src='http://127.0.0.1:9/x.png'><script>document.title = 'taken'</script></main>"
    tampered.write_text(file.read_text(encoding="utf-8").replace("</main>", injected), encoding="utf-8")
    opened = browser.new_page()
    watch = Watch(opened)
    opened.goto(tampered.as_uri())
    opened.wait_for_selector("html[data-ready]")
    assert opened.title() != "taken"
    assert sum("Content Security Policy" in text for text in watch.said) == 2
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_axe_finds_nothing(browser: Browser, file: Path, scheme: str, width: int):
    pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    script = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(
        bypass_csp=True, color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 800}
    )
    opened = context.new_page()
    opened.goto(file.as_uri())
    opened.wait_for_selector("html[data-ready]")
    opened.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    opened.evaluate(script)
    found = opened.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert [(v["id"], v["impact"], [n["html"] for n in v["nodes"]]) for v in found["violations"]] == []
    context.close()
