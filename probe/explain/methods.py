"""Every explainer, one line each: what it shows, what it cannot, and what a recording must be asked for.

Each is called the same way: `explain(trace, word, *, steps=None, image=0, frame=None) -> Heatmap`. To add one, write
`probe/explain/NAME.py` with a function NAME, and a line here; a test goes over the files and misses a line.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from inspect import signature

from probe.errors import BadInput, NotRecorded
from probe.heatmap import Heatmap
from probe.trace import Trace

Explainer = Callable[..., Heatmap]


@dataclass(frozen=True)
class Method:
    """One explainer. `shows` and `cannot` go on from "it ..."; `record` and `relations` are what a recording needs."""

    name: str
    shows: str
    cannot: str
    record: str | None = None
    relations: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    @property
    def explain(self) -> Explainer:
        """The function: trace, word -> Heatmap."""
        return getattr(import_module(f"probe.explain.{self.name}"), self.name)

    @property
    def whole(self) -> bool:
        """Whether it explains the prompt as a whole, and takes no word."""
        return signature(self.explain).parameters["word"].default is None

    @property
    def ask(self) -> str:
        """How a trace is recorded that holds what this method reads, as Python."""
        given = {"explain": self.record and f"[probe.{self.record}()]", "relations": list(self.relations)}
        return f"probe.record({', '.join(['pipe', *(f'{name}={value}' for name, value in given.items() if value)])})"


METHODS: tuple[Method, ...] = (
    Method(
        "attention",
        shows="shows which cells attend to a word, and how much of their attention it gets",
        cannot="cannot tell that the word caused what is there: what is attended to need not be used",
    ),
    Method(
        "relevancy",
        shows="shows which cells' output depends on a word, through all attention, as far as that raised the target",
        cannot="cannot show what lowered the target, nor what convolutions moved between cells",
        record="Relevancy",
    ),
    Method(
        "leave_one_out",
        shows="shows how the prediction of a step changes in each cell when the word is removed from the text",
        cannot="cannot show a picture generated without the word, nor the effect of two words that mean the same",
        record="LeaveOneOut",
    ),
    Method(
        "shapley",
        shows="divides the guidance among the words, interactions included, with a standard error",
        cannot="cannot tell a word's own effect from its part of a joint one",
        record="Shapley",
    ),
    Method(
        "guidance",
        shows="shows where the prompt as a whole moves a step",
        cannot="cannot tell one word from another, and is missing where no second branch runs",
    ),
    Method(
        "rollout",
        shows="extends a word's attention along the self-attention of cells, from parts of an object to the whole",
        cannot="cannot tell what flowed from what could flow, like attention; it is as coarse as the recorded grid",
        relations=("image->text", "image->image:low-rank"),
    ),
    Method(
        "segmentation",
        shows="shows the extent of a subject: rollouts of late steps compete, aligned with image edges",
        cannot="cannot show cause, like rollout, nor whose edge it is; subjects that were not recorded do not compete",
        relations=("image->text", "image->image:low-rank"),
    ),
    Method(
        "concept_attention",
        shows="shows which of several words each cell is most similar to, also words that are not in the prompt",
        cannot="cannot say that a cell is like none of them, nor that a word caused it",
        record="Concepts",
    ),
    Method(
        "gradients",
        shows="shows which cells of the noisy latents a word's part of the prediction comes from, by Captum's methods",
        cannot="cannot see beyond the step; gradients are noisy, and occlusion leaves the training distribution",
        record="Gradients",
    ),
    Method(
        "daam",
        shows="shows the attention to a word as DAAM 0.2.0 aggregates it, to compare with its figures",
        cannot="cannot show cause, like attention; it exists for U-Nets only, and its values grow with steps and heads",
    ),
)


def by(name: str) -> Method:
    """The method of a name. Raises BadInput, listing all."""
    found = [method for method in METHODS if method.name == name]
    if not found:
        raise BadInput(f"there is no explainer {name!r}; there are: {', '.join(each.name for each in METHODS)}")
    return found[0]


def needs(names: Collection[str]) -> tuple[list[str], list[str]]:
    """What a recording is asked for, so that these methods can read it: Inquiries by name, and relations."""
    chosen = [method for method in METHODS if method.name in names]
    inquiries = dict.fromkeys(method.record for method in chosen if method.record)
    relations = dict.fromkeys(("image->text", *(relation for method in chosen for relation in method.relations)))
    return list(inquiries), list(relations)


def held(trace: Trace, word: str, *, image: int = 0, frame: int | None = None) -> dict[str, Heatmap]:
    """The heatmaps of a word by every method that this trace was recorded for, by name, in the order of METHODS."""
    found: dict[str, Heatmap] = {}
    for method in METHODS:
        try:
            found[method.name] = method.explain(trace, word, image=image, frame=frame)
        except (NotRecorded, BadInput):  # not recorded at all, or not for this word
            continue
    return found
