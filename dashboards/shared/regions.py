"""The words of a region: which made it, and how sure the order is."""

from functools import partial

import pandas as pd
import streamlit as st
from PIL import Image, ImageDraw

from dashboards.shared import code
from dashboards.shared.downloads import Offer, offer
from dashboards.shared.explained import held_methods, title
from dashboards.shared.opened import Opened
from probe.explain.region import readers, words_of_region
from probe.show.pictures import final_picture

Box = tuple[float, float, float, float]
SIDE = 320  # pixels of the picture
COLUMNS = {
    "share": "share among the words",
    "low": "at least",
    "high": "at most",
    "first": "how often first",
    "lift": "times its mean elsewhere",
}


def regions(held: Opened, image: int) -> None:
    """A box in the picture, and its words, most important first."""
    known = [name for name in held_methods(held, image) if name in readers()]
    if not known:
        st.info("This trace holds no map of words; record attention.", icon=":material/info:")
        return
    left, right = st.columns([2, 3])
    with right:
        method = st.selectbox("By", known, format_func=title, key=f"region method:{held.name}")
        across = st.slider("From the left", 0, 100, (0, 50), format="%d %%", key=f"across:{held.name}")
        down = st.slider("From the top", 0, 100, (0, 50), format="%d %%", key=f"down:{held.name}")
        box = across[0] / 100, down[0] / 100, across[1] / 100, down[1] / 100
        if across[0] == across[1] or down[0] == down[1]:
            st.info("The region is empty: move its edges apart.", icon=":material/info:")
            return
        frame = words(held, method, box, image)
        st.dataframe(shown(frame), hide_index=True, column_config=SHARES, alt="The words of the region, first to last")
    left.image(boxed(final_picture(held.trace, image), box), alt="The picture with the region outlined", width=SIDE)
    st.markdown(
        "The range holds 9 of 10 redraws of the region's cells, by attention and relevancy of the steps too. It says "
        "how far the order rests on these, not whether the method is right."
    )
    offer(Offer("region", code.region_code(held, method, box, image), partial(words, held, method, box, image)))


SHARES = {COLUMNS[name]: st.column_config.NumberColumn(format="percent") for name in ("share", "low", "high", "first")}


def words(held: Opened, method: str, box: Box, image: int) -> pd.DataFrame:
    """One row a word, as `probe.words_of_region` has it."""
    return words_of_region(held.trace, box, method=method, image=image).reset_index()


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The same under names that people read."""
    return frame.rename(columns=COLUMNS).round(3)


def boxed(picture: Image.Image, box: Box) -> Image.Image:
    """The picture with a box (left, top, right, bottom, as shares) outlined in white on black."""
    large = picture.resize((SIDE, round(SIDE * picture.height / picture.width)))
    pen = ImageDraw.Draw(large)
    sides = (large.width - 1, large.height - 1) * 2
    left, top, right, bottom = (round(share * side) for share, side in zip(box, sides, strict=True))
    for colour, width in (("black", 5), ("white", 2)):
        pen.rectangle((left, top, right, bottom), outline=colour, width=width)
    return large
