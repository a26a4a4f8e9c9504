"""Foreign text (prompts, words, file names, errors) as text. Where Streamlit reads Markdown, only this may carry it."""

import re
import unicodedata

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_LINKS = re.compile(r"(?i)(://|www(?=\.)|@)")
_JOINER = "\u2060"  # has no width; keeps an address from becoming a link
_KEPT = {"\u200c", "\u200d", "\ufe0f"}  # join the parts of letters and emoji


def label(text: str, limit: int = 60) -> str:
    """The text for a label that reads Markdown: on one line, at most `limit` characters, and nothing in it acts."""
    line = " ".join("".join(map(_printable, text)).split())
    short = line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
    return _PUNCTUATION.sub(r"\\\1", _LINKS.sub(rf"\1{_JOINER}", short)) or "(blank)"


def _printable(character: str) -> str:
    if character in _KEPT or not unicodedata.category(character).startswith("C"):
        return character
    return " "
