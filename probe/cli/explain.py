"""`probe explain`: which region a word made, by one method or several; or which words a region rests on."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

import probe
from probe.cli import output, say
from probe.cli.open import find
from probe.cli.parser import explain_options, settings
from probe.cli.trace import split
from probe.errors import BadInput
from probe.store.folder import new_folder

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from probe.explain import Method
    from probe.heatmap import Heatmap

ALL = "all"


def run(options: Namespace) -> int:
    """Maps of words, the words of a region, or tables; with --out, figures and numbers in a new folder."""
    _check(options)
    trace = probe.open(find(options.trace))
    target = None if options.out is None else output.choose(options.out, trace.prompt)
    if target is not None and not options.overwrite:
        output.refuse(target)
    with ExitStack() as stack:
        work = None if target is None else stack.enter_context(new_folder(target, replaces=output.replaceable))
        make = _tables if options.table else _maps if options.region is None else _region
        what = make(trace, options, work)
        if work is not None:
            (work / output.MARK).write_text(settings(options, explain_options), encoding="utf-8")
    if target is not None:
        say.result(f"  {target}  {what}, and the settings to do it again")
    return 0


def _check(options: Namespace) -> None:
    """One question at a time. Raises BadInput."""
    if options.table and (options.region or options.words):
        other = "--region" if options.region else "--words"
        raise BadInput(
            f"--table and {other} ask two things: tables are of all recorded words. Give one of the two, and the "
            "other in a second command"
        )


def _maps(trace: "probe.Trace", options: Namespace, work: Path | None) -> str:
    """Say where each map is strongest, and what its method cannot tell; write figure and numbers."""
    methods, words = _methods(options.method), split(options.words)
    found = [heatmap for method in methods for heatmap in _explained(trace, words, method, options)]
    if not found:
        for word in words:
            trace.word(word)  # says so if there is none
        raise BadInput("this trace holds nothing for any method; name one with --method to see what it needs")
    for method in methods:
        own = [heatmap for heatmap in found if heatmap.method == method.name]
        if own:
            say.result("\n  ".join([f"{method.name}: {method.shows}", *map(_told, own), f"it {method.cannot}"]))
    if work is not None:
        output.draw(probe.show.side_by_side(trace, found, image=options.image, frame=options.frame), work / "methods")
        _frame(found).to_csv(work / "maps.csv", index=False)
    return "the figure, maps.csv"


def _methods(text: str) -> "list[Method]":
    from probe import explain

    return list(explain.METHODS) if text == ALL else [explain.by(name) for name in split(text)]


def _explained(trace: "probe.Trace", words: list[str], method: "Method", options: Namespace) -> "list[Heatmap]":
    """The maps of one method: of each word, or of the whole prompt; none for what is not held, if all were asked."""
    from probe.errors import NotRecorded
    from probe.readings import content_words

    asked = [None] if method.whole and not words else words or list(content_words(trace, options.image))
    try:
        return [method.explain(trace, word, image=options.image, frame=options.frame) for word in asked]
    except (BadInput, NotRecorded):
        if options.method == ALL:
            return []
        raise


def _told(heatmap: "Heatmap") -> str:
    from probe.show.facts import region

    values = heatmap.values.values
    low, high = float(values.min()), float(values.max())
    return f"{heatmap.subject}: strongest {region(values)}, {low:.3g} to {high:.3g} {heatmap.units}"


def _frame(found: "list[Heatmap]") -> "pd.DataFrame":
    """One row a method, word and cell."""
    import pandas as pd

    parts = [h.values.rename("value").to_dataframe().reset_index().reindex(columns=["y", "x", "value"]) for h in found]
    named = [part.assign(method=h.method, word=h.subject) for part, h in zip(parts, found, strict=True)]
    return pd.concat(named).reindex(columns=["method", "word", "y", "x", "value"])


def _tables(trace: "probe.Trace", options: Namespace, work: Path | None) -> str:
    """Say each table with what it cannot tell; write its figure and numbers."""
    from probe.explain.tables import table, tables

    asked = split(options.table)
    every = asked == [ALL]
    found = tables(trace, image=options.image) if every else {n: table(n).read(trace, options.image) for n in asked}
    if not found:
        raise BadInput("this trace holds no table; name one with --table to see what it needs")
    for name, array in found.items():
        about = table(name)
        say.result(f"{name}: {about.shows}, in {array.attrs.get('units', 'shares')}")
        say.result(_rows(array))
        say.result(f"it {about.cannot}")
        if work is not None:
            array.rename("value").to_dataframe().reset_index().to_csv(work / f"{name}.csv", index=False)
            output.draw(probe.show.table_figure(array, about.title), work / name)
    return ", ".join(f"{name}.csv and figure" for name in found)


def _rows(array: "xr.DataArray") -> str:
    """A table in lines."""
    frame = array.reset_coords(drop=True).to_pandas()
    text = frame.map(lambda value: f"{value:.3g}").to_string()
    return "\n".join(f"  {line}" for line in text.splitlines() if line.strip())


def _region(trace: "probe.Trace", options: Namespace, work: Path | None) -> str:
    """Say the words of a region, most important first."""
    from probe.explain.region import words_of_region

    of = {"image": options.image, "frame": options.frame}
    table = words_of_region(trace, _box(options.region), method=options.method, **of)
    say.result(f"the words of {options.region}, by {options.method}: share, 90 % interval, times its mean elsewhere")
    for word, row in table.iterrows():
        say.result(f"  {word}: {row['share']:.1%} ({row['low']:.1%} to {row['high']:.1%}), {row['lift']:.2f} x")
    if work is not None:
        table.to_csv(work / "words.csv")
    return "words.csv"


def _box(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(
            f"--region {text!r}: give left,top,right,bottom, or y,x of one cell, as shares of the picture such as "
            "0,0,0.5,1"
        ) from error
