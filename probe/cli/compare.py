"""`probe compare`: what was asked differently of two traces, and how far each word's map moved."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

import probe
from probe.cli import output, say
from probe.cli.open import find
from probe.cli.parser import compare_options, settings
from probe.cli.trace import split
from probe.errors import NotRecorded
from probe.store.folder import new_folder

if TYPE_CHECKING:
    from probe.comparison import Comparison


def run(options: Namespace) -> int:
    """Say what differs; with --out, figures and numbers in a new folder."""
    first, second = (probe.open(find(each)) for each in (options.first, options.second))
    target = None if options.out is None else output.choose(options.out, first.prompt)
    if target is not None and not options.overwrite:
        output.refuse(target)
    with ExitStack() as stack:
        work = None if target is None else stack.enter_context(new_folder(target, replaces=output.replaceable))
        found = probe.compare(first, second, words=_words(options.words))
        say.result(found)
        if work is not None:
            _write(found, work)
            (work / output.MARK).write_text(settings(options, compare_options), encoding="utf-8")
    if target is not None:
        say.result(f"  {target}  figures, differs.csv, words.csv, steps.parquet, and the settings to do it again")
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
    _draw(found, probe.show.comparison, work / "maps")
    _draw(found, probe.show.comparison_curves, work / "curves")


def _draw(found: "Comparison", draw: "Callable[[Comparison], Any]", path: Path) -> None:
    """The figure as PNG and SVG; a word where something for it was not recorded."""
    try:
        figure = draw(found)
    except NotRecorded as problem:
        say.aside(f"no figure of {path.name}: {problem}")
        return
    output.draw(figure, path)
