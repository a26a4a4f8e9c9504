"""Contact sheets: many pictures with captions, as one picture."""

import math
from collections.abc import Sequence

from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from probe.errors import BadInput
from probe.show import style
from probe.show.text import drawable

GAP, LINES, FONT = 8, 3, "DejaVu Sans"


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str] = (), *, columns: int = 8) -> Image.Image:
    """The pictures row by row, each in a cell as large as the largest, its caption (at most three lines) below.

    Raises BadInput for no pictures, no columns, or captions that do not match the pictures in number.
    """
    if not pictures or columns < 1 or (captions and len(captions) != len(pictures)):
        found = f"{len(pictures)} pictures, {len(captions)} captions, {columns} columns"
        raise BadInput(f"a sheet needs pictures, a caption for each or none, and at least one column; got {found}")
    columns = min(columns, len(pictures))
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    font = font_of(max(9, min(16, width // 10)))
    written = [fit(caption, font, width) for caption in captions]
    line = sum(font.getmetrics()) + 1
    below = line * max((len(rows) for rows in written), default=0) + (4 if captions else 0)
    cell = width + GAP, height + below + GAP
    sheet = Image.new("RGB", (columns * cell[0] + GAP, math.ceil(len(pictures) / columns) * cell[1] + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = GAP + i % columns * cell[0], GAP + i // columns * cell[1]
        sheet.paste(picture.convert("RGB"), (x + (width - picture.width) // 2, y + height - picture.height))
        for rank, row in enumerate(written[i] if written else ()):
            draw.text((x, y + height + 3 + rank * line), row, fill=style.LIGHT["ink"], font=font)
    return sheet


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font of what is drawn without matplotlib; `size` in pixels."""
    return ImageFont.truetype(findfont(FONT), size)


def fit(text: str, font: ImageFont.FreeTypeFont, width: int, *, lines: int = LINES) -> list[str]:
    """The text in at most `lines` lines no wider than `width` pixels; what does not fit ends in an ellipsis."""
    rows, rest = [], drawable(text, [FONT])
    while rest and len(rows) < lines:
        end = _longest(rest, font, width)
        space = rest.rfind(" ", 1, end + 1)
        cut = space if end < len(rest) and space > 0 else end
        rows.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest:
        rows[-1] = rows[-1][: _longest(rows[-1], font, width - round(font.getlength("…")))] + "…"
    return rows


def _longest(text: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """How many characters from the left fit in `width` pixels, at least one."""
    end = len(text)
    while end > 1 and font.getlength(text[:end]) > width:
        end -= 1
    return end
