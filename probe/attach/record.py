"""`record`: what to keep of a generation, as the caller says it."""

from collections.abc import Sequence
from typing import Any

from probe.attach.arguments import (
    cells_of,
    check_limits,
    check_pipeline,
    heads_of,
    inquiries_of,
    interventions_of,
    layers_of,
    steps_of,
    texts_of,
    words_of,
)
from probe.attach.asked.inquiry import Inquiry
from probe.attach.kept.budget import BUDGET
from probe.attach.kept.keeping import GROUPS, Heads, Level, Steps, wish
from probe.attach.kept.related import WORDS, Spot, asked
from probe.attach.kept.states import Layers
from probe.attach.recording import Recording
from probe.attach.request import Request
from probe.attach.text.lexicon import EVERY
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
    relations: str | Sequence[str] = (WORDS,),
    cells: Spot | Sequence[Spot] = ((0.5, 0.5),),
    modules: str | Sequence[str] = (),
    text_states: Layers = False,
    exact: bool = False,
    interventions: Intervention | Sequence[Intervention] = (),
    explain: Inquiry | Sequence[Inquiry] = (),
    dry_run: bool = False,
    wait: float = 0.0,
) -> Recording:
    """Record what a pipeline does inside the `with` block; the generated image stays bit-identical.

    What is read of the attention to words:
    - `words`: words to record. Default: the content words of the prompt; "*": all.
    - `sites`: patterns of module names, such as "up_blocks". Default: all.
    - `steps`: which steps, as a number, slice or sequence of numbers (negative ones count from the end). Default: all.
    - `branches`: "cond", "uncond", "negative", each of which must run, or "*": those that do.
    - `heads`: None keeps the mean over heads; "all" or numbers keep these heads as well, in /heads.

    How finely it is kept:
    - `keep`: "summary" keeps each word's map per site and step, or the means of `groups` groups of steps if there are
      more; "maps" keeps every word at every step; "full" keeps all heads as well.
    - `exact`: attention probabilities from float64 scores (on a CPU) at every site, also at those with more than 128
      columns, where the kernel's float32 log-sum-exp is used otherwise. It computes the scores once more.
    - `budget`: bytes that may be held; checked before the first pass. `recording.estimate` is the number expected.
    - `dry_run`: the block ends as soon as that number is known, as a rule before the first pass, and nothing is drawn.

    What else is recorded:
    - `relations`: attention between other tokens, in /relations (see `probe.trace`). `cells`, as (y, x) from 0 to 1,
      are those that "image->image:rows" and ":columns" keep.
    - `modules`: patterns of modules of the denoiser; the norm over channels and the mean of each channel of their
      outputs, or whole outputs with ":whole" ("mid_block:whole"), in /modules.
    - `text_states`: hidden states of the text encoders, of all layers or of those listed (0: the embeddings), in /text.
    - `interventions`: what changes latents, attention, prompt or module outputs (`probe.nurse`, `probe.Steer`).
    - `explain`: explanations that need extra passes at chosen steps (`probe.Relevancy`, `probe.LeaveOneOut`, ...).

    `wait`: seconds to wait for another thread's recording of the same weights.
    Raises OverBudget, NoSuchWord, NoMatch, MissingReadings, AlreadyRecording, NotAPipeline, UnknownFamily, BadInput.
    """
    check_pipeline(pipe)
    check_limits(groups, budget, wait)
    chosen = words if words is not None or keep == "summary" else (EVERY,)
    request = Request(
        words=words_of(chosen),
        sites=sites if sites is None or isinstance(sites, str) else list(texts_of("sites", sites, "['up_blocks']")),
        branches=texts_of("branches", branches, "['cond', 'uncond']"),
        interventions=interventions_of(interventions),
        inquiries=inquiries_of(explain),
        keep=wish(keep, steps_of(steps), heads_of(heads), int(groups)),
        budget=budget,
        related=asked(texts_of("relations", relations, "['image->text', 'text->image']"), cells_of(cells)),
        modules=texts_of("modules", modules, "['mid_block', '*.ff']"),
        text_states=layers_of(text_states),
        exact=exact,
        dry_run=dry_run,
    )
    return Recording(pipe, request, wait)
