"""Where a pass beside the pipeline's own reads the text: which calls do, and where cells and text lie in them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from probe.attach.model.attention import attention_modules
from probe.attach.model.families import Family
from probe.attach.model.layout import Plane
from probe.attach.waist import Call, Waist
from probe.errors import BadInput

Kind = Literal["cross", "joint", "text"]


@dataclass(frozen=True)
class Layout:
    """What the calls of one pass hold. `text` is the length of the sequence of text states."""

    family: Family
    plane: Plane
    text: int

    def kind(self, call: Call) -> Kind | None:
        """What a call attends from and to: cells to the text, both to both, or text to text; None for all else."""
        square, joint = call.rows == call.columns, self.family.joint
        if joint and square and call.rows == self.family.total(self.plane.tokens, self.text):
            return "joint"
        if joint:
            return "text" if square and call.rows == self.text else None
        apart = call.columns == self.text and call.rank == 0 and not (square and call.path.endswith("attn1"))
        return "cross" if apart else None

    def spans(self, call: Call) -> tuple[slice, int]:
        """(the picture's rows, the text's first column) of a call."""
        kind = self.kind(call)
        if kind == "joint":
            picture, first = self.family.starts(self.plane.tokens, self.text)
            return slice(picture, picture + self.plane.cells), first
        return slice(0, call.rows if kind == "cross" else 0), 0


def unread(layout: Layout) -> BadInput:
    """The error where no call of a pass attends to the text."""
    return BadInput(
        f"no attention of {layout.family.name} reads its {layout.text} text states as one sequence; this works for "
        "U-Nets and for joint denoisers that are given all of their text"
    )


def changing(module: nn.Module, change: Callable[[Call], Tensor | None]) -> AbstractContextManager[None]:
    """Inside, `change` may give another output for each attention call of a denoiser."""
    return Waist(lambda call, lse: None, lambda path: True, change).on(attention_modules(module))


def row(call: Call, index: int) -> Call:
    """One row of a call."""
    here = slice(index, index + 1)
    mask = call.mask[here] if call.mask is not None and call.mask.ndim == 4 and len(call.mask) > 1 else call.mask
    return replace(call, q=call.q[here], k=call.k[here], v=call.v[here], mask=mask)
