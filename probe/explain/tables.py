"""Every explanation that is a table and no map, one line each: numbers by word, by site, by pair of words.

Each is read the same way: `table(name).read(trace, image) -> DataArray` of one or two axes, the mean over steps. To add
one, add a line; the command line, the report and the dashboard list what stands here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from probe.axes import IMAGE
from probe.errors import BadInput, NotRecorded
from probe.explain.gradients import token_scores
from probe.explain.roles import carried, profile
from probe.explain.statistics import between_words, entropy, leakage, overlap, special_share
from probe.readings import Choice
from probe.trace import Trace


@dataclass(frozen=True)
class Table:
    """One table. `shows` and `cannot` go on from "it ..."; `ask` is the Python of a recording that holds it.

    `inquiry` is the name of what is asked in a recording, with `options`; `relations` what else is recorded.
    """

    name: str
    title: str
    shows: str
    cannot: str
    read: Callable[[Trace, int], xr.DataArray]
    ask: str = "probe.record(pipe)"
    inquiry: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    relations: tuple[str, ...] = ()


TABLES: tuple[Table, ...] = (
    Table(
        "scores",
        "What each word adds to the guidance",
        shows="shows which words' and special tokens' text states the guidance owes itself to, by integrated gradients",
        cannot="cannot see beyond a step, and is as good as its baseline",
        read=lambda trace, image: token_scores(trace, image=image),
        ask='probe.record(pipe, explain=[probe.Gradients(on="text")])',
        inquiry="Gradients",
        options={"on": "text"},
    ),
    Table(
        "ablation",
        "Which layers carry each word",
        shows="shows what share of a word's effect is lost where one attention layer alone is kept from it",
        cannot="cannot show what layers do together: one without effect may have others that stand in for it",
        read=lambda trace, image: profile(trace, image=image),
        ask="probe.record(pipe, explain=[probe.Ablation()])",
        inquiry="Ablation",
    ),
    Table(
        "patching",
        "Which layers carry what another prompt says otherwise",
        shows="shows how much of the way to another prompt's prediction each attention layer alone leads",
        cannot="cannot be summed: layers can say the same, and later ones rest on earlier ones",
        read=lambda trace, image: carried(trace, image=image),
        ask='probe.record(pipe, explain=[probe.Patching(source="a blue cat")])',
    ),
    Table(
        "words",
        "How much words look at one another",
        shows="shows what share of its attention each word gives to each word",
        cannot="cannot be had of U-Nets, whose text does not attend, nor say that what was looked at was used",
        read=lambda trace, image: between_words(trace, choice=Choice(image=image)),
        ask='probe.record(pipe, relations=["image->text", "text->text"])',
        relations=("image->text", "text->text"),
    ),
    Table(
        "overlap",
        "How far the maps of words cover one another",
        shows="shows which words look at the same cells: 0 is apart, 1 the same",
        cannot="cannot tell whether two words are mixed up or belong together",
        read=lambda trace, image: overlap(trace, choice=Choice(image=image)),
    ),
    Table(
        "entropy",
        "How spread out the attention of each word is",
        shows="shows over how many cells a word is looked at from: 0 bits is one cell",
        cannot="cannot tell a large thing from a map without a place",
        read=lambda trace, image: entropy(trace, choice=Choice(image=image)).mean("step", keep_attrs=True),
    ),
    Table(
        "leakage",
        "Where attributes go",
        shows="shows what share of an attribute's attention lies where each noun leads",
        cannot="cannot tell that the picture has the attribute there",
        read=lambda trace, image: leakage(trace, choice=Choice(image=image)),
    ),
    Table(
        "special",
        "What start, end and padding get",
        shows="shows the share of the cells' attention that goes to no word",
        cannot="cannot tell what those tokens are used for",
        read=lambda trace, image: special_share(trace, choice=Choice(image=image)).mean("step", keep_attrs=True),
        ask='probe.record(pipe, words=["*"])',
    ),
)


def table(name: str) -> Table:
    """The table of a name. Raises BadInput, listing all."""
    found = [each for each in TABLES if each.name == name]
    if not found:
        raise BadInput(f"there is no table {name!r}; there are: {', '.join(each.name for each in TABLES)}")
    return found[0]


def tables(trace: Trace, *, image: int = 0) -> dict[str, xr.DataArray]:
    """Every table that this trace holds, by name, in the order of TABLES. Raises NotRecorded for an unknown image."""
    there = trace.along(IMAGE)
    if there and image not in there:
        raise NotRecorded(f"image {image} was not recorded; this trace holds image {', '.join(map(str, there))}")
    found: dict[str, xr.DataArray] = {}
    for each in TABLES:
        try:
            found[each.name] = each.read(trace, image)
        except (NotRecorded, BadInput):  # not recorded, or these words have none
            continue
    return found
