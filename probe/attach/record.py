"""`record`: what to keep of a generation, as the caller says it."""

from collections.abc import Sequence
from typing import Any

from probe.attach.asked.inquiry import Inquiry
from probe.attach.kept.budget import BUDGET
from probe.attach.kept.keeping import GROUPS, Heads, Level, Steps, wish
from probe.attach.kept.related import WORDS, Spot, asked
from probe.attach.kept.states import Layers
from probe.attach.recording import Recording
from probe.attach.request import Request
from probe.attach.text.lexicon import EVERY
from probe.errors import BadInput
from probe.intervention import Intervention


def record(
    pipe: Any,
    words: Sequence[str] | None = None,
    *,
    sites: str | Sequence[str] | None = None,
    steps: Steps = None,
    heads: Heads = None,
    keep: Level = "summary",
    groups: int = GROUPS,
    budget: int = BUDGET,
    branches: str | Sequence[str] = ("cond",),
    relations: Sequence[str] = (WORDS,),
    cells: Sequence[Spot] = ((0.5, 0.5),),
    modules: str | Sequence[str] = (),
    text_states: Layers = False,
    exact: bool = False,
    interventions: Sequence[Intervention] = (),
    explain: Inquiry | Sequence[Inquiry] = (),
    wait: float = 0.0,
) -> Recording:
    """Record what a pipeline does inside the block; the picture stays the same to the bit.

    `words`: the words to watch (default: the prompt's content words; "*" stands for all). `sites`: patterns of module
    names (default: all). `steps`: which of them are read, as in a list. `heads`: None keeps their mean; "all" or
    numbers keep these apart too, in /heads. `keep`: "summary" holds each word's map for every site and step, or for
    `groups` groups of steps, each with its mean, where there are more; "maps" holds every word at every step; "full"
    all heads as well. `budget`: bytes that may be held; `recording.estimate` says how many it will be.
    `branches`: "cond", "uncond", "negative", each of which must run, or "*", those that do.
    `relations`: who attends to whom beyond words, in /relations (see `probe.trace`), and `cells`, as (y, x) from 0 to
    1, the cells that "image->image:rows" and ":columns" are of.
    `modules`: patterns of modules of the denoiser, whole names or with "*"; of their outputs, norms over channels and
    means of channels are kept, "mid_block:whole" keeps them whole, in /modules. `text_states`: what the text encoders
    held after each layer, or after some (numbers from 0, the embeddings), in /text. `exact`: shares, of words and in
    relations, from scores in float64 (on a CPU) at every site, also at those with more than 128 columns, where the
    kernel's float32 sum is taken otherwise; it costs the scores once more (docs/how-to.md).
    `interventions`: what moves the latents, or changes attention or prompt (`probe.nurse`).
    `explain`: what to find out at chosen steps beside them (`probe.Relevancy`).
    `wait`: seconds to wait for another thread's recording.
    Raises OverBudget, NoSuchWord, NoMatch, MissingReadings, AlreadyRecording, UnknownFamily.
    """
    if isinstance(words, str):
        raise BadInput(f"words is one string ({words!r}); give a list of words: words=[{words!r}]")
    for item in interventions:
        item.check()
    chosen = words if words is not None or keep == "summary" else (EVERY,)
    request = Request(
        words=None if chosen is None else tuple(chosen),
        sites=sites,
        branches=(branches,) if isinstance(branches, str) else tuple(branches),
        interventions=tuple(interventions),
        inquiries=(explain,) if isinstance(explain, Inquiry) else tuple(explain),
        keep=wish(keep, steps, heads, groups),
        budget=budget,
        related=asked(relations, cells),
        modules=(modules,) if isinstance(modules, str) else tuple(modules),
        text_states=text_states,
        exact=exact,
    )
    return Recording(pipe, request, wait)
