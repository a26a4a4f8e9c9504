"""Text of any kind made drawable: whatever a prompt holds, it appears as text, whole or with a visible ellipsis."""

import textwrap
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import islice

from matplotlib.font_manager import findfont, fontManager, get_font

FONTS = (
    "DejaVu Sans",  # comes with matplotlib
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
    "Segoe UI Emoji",
)
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@cache
def families() -> list[str]:
    """The installed fonts of `FONTS`, in order: matplotlib takes each character from the first that has it."""
    installed = set(fontManager.get_font_names())
    return [name for name in FONTS if name in installed]


@cache
def _glyphs(name: str) -> frozenset[int]:
    return frozenset(get_font(findfont(name, fallback_to_default=False)).get_charmap())


def drawable(text: str, fonts: Sequence[str] | None = None) -> str:
    """The text on one line; a character that none of the fonts has is written out by name, as `[red apple]`.

    `fonts` are names of installed fonts, default `families()`.
    """
    names = families() if fonts is None else fonts
    return "".join(_drawable(character, names) for character in " ".join(text.split()))


def _drawable(character: str, fonts: Sequence[str]) -> str:
    category = unicodedata.category(character)
    if category in INVISIBLE or unicodedata.name(character, "").startswith("VARIATION SELECTOR"):
        return ""
    if any(ord(character) in _glyphs(name) for name in fonts):
        return character
    if category == "So":
        return f"[{unicodedata.name(character, f'U+{ord(character):04X}').lower()}]"
    return f"[U+{ord(character):04X}]"


def shorten(text: str, limit: int) -> str:
    """The drawable text, at most `limit` characters, the middle left out."""
    text = drawable(text)
    if len(text) <= limit:
        return text
    kept = limit - 1
    return f"{text[: kept - kept // 3].rstrip()}…{text[len(text) - kept // 3 :].lstrip()}"


def wrap(text: str, width: int, lines: int = 3) -> str:
    """The drawable text in at most `lines` lines of `width` characters, an ellipsis where it was cut."""
    rows = textwrap.wrap(drawable(text), width, break_long_words=True, max_lines=lines, placeholder=" …")
    return "\n".join(rows)


def spread(items: Sequence[int], count: int) -> list[int]:
    """`count` items spread evenly from the first to the last; all if there are no more."""
    if len(items) <= count:
        return list(items)
    last = len(items) - 1
    places = (round(i * last / max(1, count - 1)) for i in range(count))
    return [items[place] for place in islice(dict.fromkeys(places), count)]
