"""How pages look alike: heads, troubles, figures with words for those who do not see them."""

import io
from collections.abc import Callable

import streamlit as st
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from probe.show import style

PIXELS_PER_INCH = 130  # of figures on a page: larger than in print


def icon() -> Image.Image:
    """The page's icon: a cell lit in a grid. Made here, as named icons would be fetched from elsewhere."""
    picture = Image.new("RGB", (32, 32), style.LIGHT["accent"])
    draw = ImageDraw.Draw(picture)
    levels = (0.25, 0.5, 0.3, 0.55, 0.97, 0.65, 0.3, 0.6, 0.35)
    for i, level in enumerate(levels):
        x, y = 2 + i % 3 * 10, 2 + i // 3 * 10
        red, green, blue, _ = style.colour_map()(level, bytes=True)
        draw.rectangle((x, y, x + 7, y + 7), fill=(int(red), int(green), int(blue)))
    return picture


def head(title: str, lead: str) -> None:
    """A page's title and the sentence below it; both our own words."""
    st.title(title, anchor=False)
    st.markdown(lead)


def trouble(what: str, why: object) -> None:
    """Something did not work: what, in our own words, and why and what to do, as plain text."""
    with st.container(border=True):
        st.error(what, icon=":material/error:")
        st.text(str(why))


def figure(draw: Callable[[], Figure], alt: str, key: tuple[object, ...]) -> None:
    """A matplotlib figure, at most as wide as the page; drawn once for a key."""
    picture, width = _drawn(key, draw)
    st.image(picture, alt=alt, width=width)


@st.cache_resource(max_entries=128, show_spinner=False)
def _drawn(key: tuple[object, ...], _draw: Callable[[], Figure]) -> tuple[bytes, int]:
    """The figure as PNG, and its width on the page in pixels."""
    made = _draw()
    return saved(made, "png"), round(made.get_figwidth() * PIXELS_PER_INCH)


def saved(drawn: Figure, kind: str) -> bytes:
    """A figure as a file: "png" or "svg"."""
    stream = io.BytesIO()
    drawn.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return stream.getvalue()
