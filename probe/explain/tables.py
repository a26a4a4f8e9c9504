"""Every explanation that is a table and not a map, one line each: numbers by word, by site, by pair of words.

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
        shows="attributes the guidance to the text states of words and special tokens, by integrated gradients",
        cannot="cannot see beyond a step, and depends on its baseline",
        read=lambda trace, image: token_scores(trace, image=image),
        ask='probe.record(pipe, explain=[probe.Gradients(on="text")])',
        inquiry="Gradients",
        options={"on": "text"},
    ),
    Table(
        "ablation",
        "Which layers carry each word",
        shows="shows what share of a word's effect is lost when it is removed from a single attention layer",
        cannot="cannot show what layers do together: others may compensate for a layer that seems without effect",
        read=lambda trace, image: profile(trace, image=image),
        ask="probe.record(pipe, explain=[probe.Ablation()])",
        inquiry="Ablation",
    ),
    Table(
        "patching",
        "Which layers carry the difference to another prompt",
        shows="shows what share of the difference to another prompt's prediction each attention layer recovers alone",
        cannot="cannot be summed: layers can be redundant, and later ones depend on earlier ones",
        read=lambda trace, image: carried(trace, image=image),
        ask='probe.record(pipe, explain=[probe.Patching(source="a blue cat")])',
    ),
    Table(
        "words",
        "How much words attend to one another",
        shows="shows what share of its attention each word gives to each word",
        cannot="cannot be computed for U-Nets, whose text does not attend, nor say that what was attended to was used",
        read=lambda trace, image: between_words(trace, choice=Choice(image=image)),
        ask='probe.record(pipe, relations=["image->text", "text->text"])',
        relations=("image->text", "text->text"),
    ),
    Table(
        "overlap",
        "How much the maps of words overlap",
        shows="shows which words have the same map: 0 is disjoint, 1 is equal",
        cannot="cannot tell whether two words are confused or belong together",
        read=lambda trace, image: overlap(trace, choice=Choice(image=image)),
    ),
    Table(
        "entropy",
        "How spread out the attention of each word is",
        shows="shows over how many cells the attention to a word is spread: 0 bits is one cell",
        cannot="cannot tell a large object from a diffuse map",
        read=lambda trace, image: entropy(trace, choice=Choice(image=image)).mean("step", keep_attrs=True),
    ),
    Table(
        "leakage",
        "Where attributes go",
        shows="shows what share of an attribute's attention lies in cells where each noun dominates",
        cannot="cannot tell that the picture has the attribute there",
        read=lambda trace, image: leakage(trace, choice=Choice(image=image)),
    ),
    Table(
        "special",
        "Attention on start, end and padding",
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
