"""Text that breaks things elsewhere; here it must appear as text."""

WORDS = (
    "$x$",
    "cat_2^3",
    "\\frac{1",
    "<img/src=x/onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"'`&amp;{{7*7}}",
    "![p](https://example.org/p.png)",
    "🐱",
    "👩🏽‍🚀",
    "猫と犬",
    "naïve",
    "שלום",
    "supercalifragilisticexpialidocious" * 4,
)
