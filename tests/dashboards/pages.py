"""Pages run without a browser, as a visitor's session would run them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "dashboards" / "app.py"
SECONDS = 120  # that a page may take on a busy machine
READ = ("markdown", "caption", "title", "header", "error", "info", "success", "warning")
LABELLED = ("button", "text_input", "text_area", "number_input", "select_slider", "selectbox", "toggle")


def page(name: str, **query: str) -> AppTest:
    """A page, run once: "home", "generate", "nurse" or "explorer"."""
    app = AppTest.from_file(str(APP), default_timeout=SECONDS)
    app.query_params.update(query)
    return app.switch_page(f"views/{name}.py").run()


def texts(elements: Iterable[Any]) -> list[str]:
    """What elements say."""
    return [str(element.value) for element in elements]


def plain(app: AppTest) -> str:
    """Everything that is shown as it is, without Markdown."""
    return "\n".join(texts(app.text) + texts(app.code))


def markdown(app: AppTest) -> str:
    """Everything in which Markdown is read: text, labels, options of pills."""
    read = [text for kind in READ for text in texts(getattr(app, kind))]
    labels = [element.label for kind in LABELLED for element in getattr(app, kind)]
    labels += [element.label for element in (*app.expander, *app.tabs)]
    options = [option for group in app.button_group for option in group.options]
    return "\n".join([*read, *labels, *options])


def alts(app: AppTest) -> list[str]:
    """What pictures, charts and tables say to those who do not see them."""
    images = [image.alt for element in app.image for image in element.proto.imgs]
    return [*images, *(element.proto.alt for element in (*app.get("vega_lite_chart"), *app.dataframe))]


def viewed(app: AppTest) -> dict[str, Any]:
    """The data that the viewer was given."""
    return json.loads(app.get("bidi_component")[0].proto.json)
