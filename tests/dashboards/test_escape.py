"""Labels: foreign text that Markdown leaves as it is."""

import pytest

from dashboards.shared.escape import label


def unescaped(text: str) -> str:
    """What CommonMark shows for a text in which every ASCII punctuation mark has its backslash."""
    out, rest = [], iter(text)
    for character in rest:
        out.append(next(rest) if character == "\\" else character)
    return "".join(out).replace("\u2060", "")


@pytest.mark.parametrize(
    "text",
    ["cat", "![p](https://example.org/p.png)", "<img src=x>", ":red[cat]", "$x$", "*a* _b_ `c`", "a\\b", "1. x", "# x"],
)
def test_every_mark_is_escaped_and_the_text_is_kept(text: str):
    made = label(text)
    assert unescaped(made) == text
    marks = [
        i for i, character in enumerate(made) if not character.isalnum() and character.isascii() and character != " "
    ]
    assert all(made[i - 1] == "\\" or made[i] == "\\" for i in marks)


def test_addresses_do_not_become_links():
    assert "://\u2060" in label("https://example.org").replace("\\", "")
    assert "www\u2060" in label("www.example.org")
    assert "@\u2060" in label("a@example.org").replace("\\", "")


def test_one_short_line_without_invisible_characters():
    assert label("a\nb\tc\u202ed\x00") == "a b c d"
    assert len(label("x" * 500)) == 60
    assert label(" \n ") == "(blank)"
    assert label("👩🏽\u200d🚀") == "👩🏽\u200d🚀"
