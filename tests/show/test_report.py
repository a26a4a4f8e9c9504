"""The report as a file: one page, no network, text stays text, written whole or not at all."""

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.errors import NotRecorded, OutputError
from probe.explain.attention import attention
from probe.show import render_report, report
from probe.show.facts import percent
from probe.trace import Trace
from tests.factories import make_trace
from tests.show.hostile import WORDS
from tests.show.test_curves import with_one_branch
from tests.show.test_pack import opened
from tests.show.test_render import without


class Page(HTMLParser):
    """Tags with their attributes, and the text inside each element of a kind, whatever stands around it."""

    VOID = ("meta", "link", "img", "input", "br", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed out of turn"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> dict:
        return json.loads(self.texts["script"][0])


def long_trace() -> Trace:
    """50 steps, eight words, with predicted pictures that hardly compress."""
    trace = make_trace(steps=50, words=("cat", "dog", "balloon", "car", "bowl", "clock", "apple", "bench"))
    noise = np.random.default_rng(0).integers(96, 160, (50, 1, 128, 128, 3), dtype=np.uint8)
    node = trace.tree["thumbnails"].to_dataset().drop_vars("thumbnails")
    trace.tree["thumbnails"] = node.assign(thumbnails=(("step", "image", "y", "x", "rgb"), noise))
    return trace


def test_it_is_one_file_below_three_megabytes(tmp_path: Path):
    path = report(long_trace(), tmp_path / "new" / "report.html")
    assert path == tmp_path / "new" / "report.html"
    assert os.listdir(path.parent) == ["report.html"]
    assert path.stat().st_size < 3_000_000


def test_nothing_in_it_points_anywhere():
    text = render_report(make_trace())
    page = Page(text)
    addresses = [a.get(name) or "#" for _, a in page.tags for name in ("src", "href", "action", "data")]
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|WebSocket", text)
    assert not any(name.startswith("on") or name == "style" for _, a in page.tags for name in a)


def test_the_policy_allows_its_own_script_and_style_and_no_network():
    page = Page(render_report(make_trace()))
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for rule, text in (("script-src", page.texts["script"][-1]), ("style-src", page.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_maps_in_the_page_are_the_maps_of_the_trace():
    trace = make_trace(steps=3)
    data = Page(render_report(trace)).data
    maps, rank = data["maps"], data["labels"].index("balloon")
    sheet = np.asarray(opened(maps["src"]))
    for step, chosen in [(0, 0), (2, 2), (3, None)]:
        tile = step * len(data["labels"]) + rank
        y, x = tile // maps["columns"] * maps["height"], tile % maps["columns"] * maps["width"]
        low, high = maps["low"][tile], maps["high"][tile]
        field = low + sheet[y : y + maps["height"], x : x + maps["width"]] / 255 * (high - low)
        expected = attention(trace, "balloon", steps=chosen).values
        np.testing.assert_allclose(field, expected, atol=(high - low) / 500)


def test_it_names_the_words_their_shares_settings_and_versions():
    trace = make_trace()
    page = Page(render_report(trace))
    assert page.texts["h1"] == ["a cat and a balloon"]
    assert page.texts["button"][:5] == ["cat", "balloon", "<start>", "<end>", "<padding>"]
    heads = [text for text in page.texts["th"] if text.strip()]
    assert heads[6:11] == ["cat", "balloon", "<start>", "<end>", "<padding>"]
    assert "everything else" not in heads, "the shares of this trace sum to one"
    assert percent(float(attention(trace, "cat").values.mean())) in page.texts["td"]
    assert {"menagerie", "DDIMScheduler", "2.13.0"} <= set(page.texts["dd"])
    assert "it is not proof" in " ".join(page.texts["p"] + page.texts["strong"])


def test_what_was_not_recorded_is_counted():
    trace = make_trace()
    for name, node in trace.tree["attention"].children.items():
        kept = node.to_dataset().sel(word=["cat", "balloon", "<start>"])
        trace.tree[f"attention/{name}"] = kept
    assert "everything else" in Page(render_report(trace)).texts["th"]


def test_pictures_have_a_text_in_their_place():
    page = Page(render_report(make_trace()))
    assert [image["alt"] for image in page.all("img")] == ["The picture made from the prompt: a cat and a balloon"]
    canvases = page.all("canvas")
    assert all(c.get("aria-hidden") == "true" or c.get("aria-label") for c in canvases)


def test_hostile_words_stay_text():
    trace = make_trace(words=WORDS)
    page = Page(render_report(trace))
    assert len(page.all("script")) == 2
    assert len(page.all("img")) == 1
    assert page.texts["h1"] == [trace.prompt]
    assert set(WORDS) <= set(page.texts["button"])
    assert page.data["labels"][: len(WORDS)] == list(WORDS)
    assert page.data["run"]["prompts"] == [trace.prompt]


@pytest.mark.parametrize("node", ["attention", "guidance", "thumbnails", "latents"])
def test_it_does_without_what_was_not_recorded(node: str):
    page = Page(render_report(without(make_trace(), node)))
    said = " ".join(page.texts["p"])
    assert ("No attention was recorded" in said) == (node == "attention")
    assert ("No guidance was recorded" in said) == (node == "guidance")
    assert (page.data["predicted"] is None) == (node == "thumbnails")


def test_one_branch_is_no_guidance():
    page = Page(render_report(with_one_branch()))
    assert "No guidance was recorded" in " ".join(page.texts["p"])
    assert page.data["guidance"] is None


def test_without_pictures_it_shows_the_last_predicted_one():
    trace = make_trace()
    bare = Trace(trace.run, trace.words, trace.tokens, trace.sites, trace.tree)
    shown = opened(str(Page(render_report(bare)).all("img")[0]["src"]))
    assert shown.size == (128, 128)
    with pytest.raises(NotRecorded, match="neither pictures nor thumbnails"):
        render_report(without(bare, "thumbnails"))


def test_each_picture_of_a_batch_has_its_own():
    trace = make_trace(images=2)
    shown = opened(str(Page(render_report(trace, image=1)).all("img")[0]["src"]))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(trace.pictures[1]))


def test_fine_and_wide_maps_are_made_smaller_and_it_says_so():
    trace = make_trace(steps=2, grids=((96, 64), (48, 32)))
    text = render_report(trace)
    maps = Page(text).data["maps"]
    assert (maps["height"], maps["width"]) == (32, 21)
    assert "Maps are reduced from 96 x 64 to 32 x 21 cells." in text


def test_it_opens_no_file_that_is_there(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"report.html exists already; .*exist_ok=True"):
        report(make_trace(), path)
    assert path.read_text() == "mine"
    report(make_trace(), path, exist_ok=True)
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(OutputError, match="exists already"):
        report(make_trace(), tmp_path, exist_ok=True)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match=r"report.html cannot be written: .*file is not a folder"):
        report(make_trace(), blocked / "report.html")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device; free some space"):
        report(make_trace(), tmp_path / "report.html")
    assert os.listdir(tmp_path) == ["file"]


def test_one_step_and_one_word_make_a_report():
    trace = make_trace(steps=1, words=("cat",), grids=((8, 8),))
    assert Page(render_report(trace)).data["steps"] == [0]


def test_a_large_picture_does_not_make_a_large_page():
    trace = make_trace(steps=2)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8))
    heavy = Trace(trace.run, trace.words, trace.tokens, trace.sites, trace.tree, (noise,))
    assert len(render_report(heavy)) < 3_000_000
