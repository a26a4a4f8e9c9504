"""`probe compare`: which settings of two traces differ, and how far each word's map moved."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

import probe
from probe.cli import output, say
from probe.cli.open import find
from probe.cli.parser import compare_options
from probe.cli.values import split
from probe.errors import NotRecorded

if TYPE_CHECKING:
    from probe.comparison import Comparison


def run(options: Namespace) -> int:
    """Say what differs; with --out, figures and numbers in a new folder."""
    first, second = (probe.open(find(each)) for each in (options.first, options.second))
    target = output.target_if_given(options, first.prompt)
    with output.folder_if_given(target, options, compare_options) as work:
        found = probe.compare(first, second, words=_words(options.words))
        say.result(found)
        if work is not None:
            _write(found, work)
    if target is not None:
        say.result(f"  {target}  figures, differs.csv, words.csv, steps.parquet, and the settings to repeat it")
    return 0


def _words(text: str | None) -> dict[str, str] | None:
    """Which word of the first goes with which of the second: "cat=dog,bow" as {"cat": "dog", "bow": "bow"}."""
    parts = (word.partition("=") for word in split(text))
    return {first.strip(): (second or first).strip() for first, _, second in parts} or None


def _write(found: "Comparison", work: Path) -> None:
    """What differs, words and steps as tables, and the figures of what was recorded."""
    found.settings.to_csv(work / "differs.csv", index=False)
    found.table().to_parquet(work / "steps.parquet", index=False)
    if found.words:
        found.ranked().to_csv(work / "words.csv", index=False)
    for name, draw in (("maps", probe.show.comparison), ("curves", probe.show.comparison_curves)):
        _draw(found, name, draw, work)


def _draw(found: "Comparison", name: str, draw: "Callable[[Comparison], Any]", work: Path) -> None:
    """The figure as PNG and SVG; a word where something for it was not recorded."""
    try:
        figure = draw(found)
    except NotRecorded as problem:
        say.aside(f"no figure of {name}: {problem}")
        return
    output.save({name: figure}, work)
