"""Arguments, as callers give them: of the right kind, or an error that says what was found and what is expected."""

from collections.abc import Callable, Iterable, Mapping, Sized
from numbers import Integral, Real
from reprlib import Repr
from typing import Any

from probe.attach.asked.inquiry import Inquiry
from probe.attach.kept.keeping import Heads, Steps
from probe.attach.kept.related import Spot
from probe.attach.kept.states import Layers
from probe.errors import BadInput, NotAPipeline
from probe.intervention import Intervention

Kind = Callable[[Any], bool]
WIDTH = 80  # characters of a value in a message
MANY = 8  # items of a list in a message


def shown(value: Any) -> str:
    """A value on one line of a message, however long it is."""
    brief = Repr()
    brief.maxlist = brief.maxtuple = brief.maxset = brief.maxdict = MANY
    brief.maxstring = brief.maxother = brief.maxlong = WIDTH
    return " ".join(brief.repr(value).split())


def check_pipeline(pipe: Any) -> None:
    """Raises NotAPipeline for what is no live pipeline."""
    if callable(pipe) and isinstance(getattr(pipe, "components", None), Mapping):
        return
    kind = type(pipe).__name__
    found = f"{pipe!r}, a name" if isinstance(pipe, str) else "None" if pipe is None else f"a {kind}"
    raise NotAPipeline(
        f"pipe is {found}; expected a pipeline of diffusers, loaded: pipe = probe.load(...), or "
        "diffusers.DiffusionPipeline.from_pretrained(...), with the denoiser as a part of it"
    )


def expect(name: str, value: Any, kind: Kind, expected: str) -> None:
    """Raises BadInput for a value that is not of a kind."""
    if not kind(value):
        raise BadInput(f"{name}={shown(value)}: expected {expected}")


def several(name: str, value: Any, kind: Kind, expected: str) -> tuple[Any, ...]:
    """The items of an argument that takes several; one alone is taken as a list of one. Raises BadInput."""
    if kind(value):
        return (value,)
    listed = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    items = tuple(value) if listed else ()
    if not listed or not all(kind(item) for item in items):
        raise BadInput(f"{name}={shown(value)}: expected {expected}")
    return items


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of Python or of numpy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether this is a real number, and no NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_pair(value: Any) -> bool:
    """Whether these are two numbers."""
    return isinstance(value, Sized) and len(value) == 2 and isinstance(value, Iterable) and all(map(is_number, value))


def words_of(words: Any) -> tuple[str, ...] | None:
    """The words to record. Raises BadInput."""
    if isinstance(words, str):
        raise BadInput(f"words is one string ({words!r}); give a list of words: words=[{words!r}]")
    expected = "a list of words of the prompt, such as words=['cat', 'red'], or None for the content words"
    return None if words is None else several("words", words, is_text, expected)


def steps_of(steps: Any) -> Steps:
    """The steps to record; numbers of numpy become Python's. Raises BadInput."""
    expected = "numbers of steps, such as steps=[0, 10, -1], a slice (steps=slice(0, 20, 5)), or None for all"
    if isinstance(steps, slice):
        parts = (steps.start, steps.stop, steps.step)
        fits = all(part is None or is_whole(part) for part in parts) and steps.step != 0
        expect("steps", steps, lambda _: fits, expected)
        return steps
    return None if steps is None else tuple(map(int, several("steps", steps, is_whole, expected)))


def heads_of(heads: Any) -> Heads:
    """The heads to keep. Raises BadInput."""
    if heads is None or (isinstance(heads, str) and heads == "all"):
        return heads
    expected = "None (their mean), 'all', or numbers from 0 on: heads=[0, 3]"
    return tuple(map(int, several("heads", heads, is_whole, expected)))


def layers_of(layers: Any) -> Layers:
    """The layers of the text encoders. Raises BadInput: one number could be a layer, or how many."""
    expected = "True for all layers, or a list of them, such as text_states=[0, 6, -1]"
    if isinstance(layers, bool):
        return layers
    expect("text_states", layers, lambda value: not is_whole(value), expected)
    return tuple(map(int, several("text_states", layers, is_whole, expected)))


def interventions_of(given: Any) -> tuple[Intervention, ...]:
    """The interventions, each of which has checked itself. Raises BadInput."""
    example = "interventions=[probe.nurse.AttendAndExcite(subjects=('cat', 'dog'))]"
    expected = f"a list of interventions, such as {example}"
    found = several("interventions", given, lambda item: isinstance(item, Intervention), expected)
    for item in found:
        item.check()
    return found


def inquiries_of(given: Any) -> tuple[Inquiry, ...]:
    """The inquiries. Raises BadInput."""
    expected = "a list of explanations, such as explain=[probe.LeaveOneOut(steps=(0,))]"
    return several("explain", given, lambda item: isinstance(item, Inquiry), expected)


def texts_of(name: str, given: Any, example: str) -> tuple[str, ...]:
    """One text or several. Raises BadInput."""
    return several(name, given, is_text, f"a text or a list of texts, such as {name}={example}")


def cells_of(cells: Any) -> tuple[Spot, ...]:
    """The cells whose rows and columns are kept, each (y, x). Raises BadInput."""
    expected = "a list of (y, x), each from 0 to 1, such as cells=[(0.5, 0.5), (0.1, 0.9)]"
    return tuple((y, x) for y, x in several("cells", cells, is_pair, expected))


def check_limits(groups: Any, budget: Any, wait: Any) -> None:
    """Raises BadInput where these are no numbers, or below what each can be."""
    expect("groups", groups, is_whole, "a whole number from 1 on, such as groups=50")
    expected = "a number of bytes, such as budget=2 * 2**30 for 2 GiB"
    expect("budget", budget, lambda value: is_number(value) and value >= 0, expected)
    expect("wait", wait, lambda value: is_number(value) and value >= 0, "seconds from 0 on, such as wait=30")
