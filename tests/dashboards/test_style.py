"""The dashboard's settings: this machine only, nothing sent, and the colours of every other figure."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import dashboards
from dashboards.shared import charts, look
from probe.show import style

HERE = Path(dashboards.__file__).parent
NAMES = {
    "primaryColor": "accent",
    "backgroundColor": "paper",
    "secondaryBackgroundColor": "panel",
    "textColor": "ink",
    "linkColor": "first",
    "borderColor": "line",
}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads((HERE / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("scheme", "colours"), [("light", style.LIGHT), ("dark", style.DARK)])
def test_the_colours_are_those_of_the_figures(settings: dict[str, Any], scheme: str, colours: Mapping[str, str]):
    assert settings["theme"][scheme] == {name: colours[ours] for name, ours in NAMES.items()}


def test_the_font_is_that_of_the_reports(settings: dict[str, Any]):
    assert settings["theme"]["font"] == style.SANS


def test_this_machine_only_and_nothing_sent(settings: dict[str, Any]):
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["allowedHosts"] == ["127.0.0.1", "localhost"]
    assert settings["server"]["enableStaticServing"] is False
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorLinks"] is False


def test_showing_progress_does_not_stop_the_worker(settings: dict[str, Any]):
    assert settings["runner"]["postScriptGC"] is False


def test_no_folder_is_named_pages():
    """Streamlit would serve its files by themselves, without the shell, on a server's first visit."""
    assert not (HERE / "pages").exists()


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("series", "paper"), [(style.SERIES, style.LIGHT["paper"]), (charts.DARK_SERIES, style.DARK["paper"])]
)
def test_lines_stand_out_from_the_page(series: tuple[str, ...], paper: str):
    for colour in series:
        high, low = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_the_icon_is_made_here():
    assert look.icon().size == (32, 32)
