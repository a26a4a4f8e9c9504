"""A recorded run as the source of attention: what its sites projected, step by step, from the modules of its trace.

Queries, keys and values are what "to_q", "to_k" and "to_v" gave, so attention is what the kernel makes of them, of any
size, and nothing like the matrix of all cells to all cells is ever stored.
"""

from dataclasses import dataclass, replace

import torch
import xarray as xr
from torch import Tensor

from probe.attach.waist import Call
from probe.axes import CHANNEL, STEP
from probe.errors import BadInput, NotRecorded
from probe.trace import Trace
from probe.words import Prompt

ASK = 'record it with probe.record(pipe, keep="maps", modules=[...]), their names with ":whole", and as many steps'


@dataclass(frozen=True)
class Recorded:
    """One run at one step. `prompt` is its prompt, with the tokens as this pipeline has them."""

    trace: Trace
    prompt: Prompt
    step: int
    image: int

    def __post_init__(self) -> None:
        count = len(self.trace.run.prompts)
        if count != 1:
            raise BadInput(f"the recorded run has {count} prompts; record each in a run of its own")

    def asking(self, call: Call) -> Call:
        """One row of a call [1, h, n, d], with what the recorded run asked and was asked. Raises BadInput."""
        if call.mask is not None:
            raise BadInput(f"{call.path} masks its text, and a trace holds no mask; give both prompts in one call")
        return replace(call, q=self._projected(call, "to_q", call.q), k=self._projected(call, "to_k", call.k))

    def values(self, call: Call) -> Tensor:
        """[h, t, d] what the recorded run's cells got from."""
        return self._projected(call, "to_v", call.v)[0]

    def _projected(self, call: Call, name: str, like: Tensor) -> Tensor:
        """What a projection gave, as heads [1, h, n, d]."""
        found = output(self.trace, f"{call.path}.{name}", self.step, self.image)
        flat = torch.as_tensor(found.transpose(..., CHANNEL).values).flatten(0, -2)  # [n, c]
        heads, size = like.shape[-3], like.shape[-1]
        if flat.shape[-1] != heads * size or (name == "to_q" and len(flat) != like.shape[-2]):
            raise BadInput(
                f"{call.path}.{name} gave {tuple(flat.shape)} in the recorded run, and gives "
                f"{(like.shape[-2], heads * size)} here; both must be of one model and one size"
            )
        return flat.unflatten(-1, (heads, size)).transpose(0, 1)[None].to(like)


def modules(trace: Trace) -> tuple[str, ...]:
    """The modules whose outputs are in a trace as a whole."""
    held = trace.tree["modules"].children if "modules" in trace.tree.children else {}
    return tuple(name for name, node in held.items() if "output" in node)


def output(trace: Trace, name: str, step: int, image: int) -> xr.DataArray:
    """All that a module gave for a picture's prompt in a recorded run. Raises NotRecorded, saying what to record."""
    node = trace.node(f"modules/{name}") if name in modules(trace) else xr.Dataset(coords={STEP: []})
    held = node[STEP].values.tolist()
    if "steps" in node.coords or step not in held:
        raise NotRecorded(f"the recorded run does not hold all that {name} gave at step {step} by itself; {ASK}")
    pictures = node.sizes["image"]
    place = {STEP: held.index(step), "image": image if pictures > 1 else 0}
    if place["image"] >= pictures:
        raise BadInput(f"the recorded run has {pictures} pictures, none of them number {image}; record as many, or one")
    return node["output"].isel(place).sel(branch="cond")
