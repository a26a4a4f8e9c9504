"""A trace: the frozen record of one generation. It holds no model and needs no torch.

`tree` is an xarray.DataTree with these nodes, each present only if it was recorded:

/attention/{H}x{W}  attention    (site, step, branch, image, word, y, x)  float32: mean over heads of the probability
                                 that a cell gives to the word (summed over the word's tokens)
                    timestep     (step)
/guidance           cond_norm, uncond_norm, difference_norm, guided_norm, cosine_previous, cosine_final  (step, image)
                    magnitude    (step, image, y, x): norm over channels of cond - uncond
/latents            latents      (time, image, channel, y, x) float16: before each step, and after the last
                    predicted    (step, image, channel, y, x) float16: the predicted x0
/thumbnails         thumbnails   (step, image, y, x, rgb) uint8: the predicted x0, decoded small
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from PIL import Image
from pydantic import BaseModel, ConfigDict

from probe.errors import NoSuchWord, NotRecorded
from probe.site import Site
from probe.words import Token, Word


class Run(BaseModel):
    """What was asked for and with what: enough to run it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...] = ()
    seed: int | None = None
    steps: int
    guidance_scale: float | None = None
    height: int
    width: int
    model: str
    revision: str | None = None
    family: str
    pipeline: str
    scheduler: dict[str, Any] = {}
    timesteps: tuple[float, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    created: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = {}


@dataclass(frozen=True, eq=False)
class Trace:
    """The frozen record of one generation; see the module's docstring for the nodes of `tree`."""

    run: Run
    words: tuple[Word, ...]
    tokens: tuple[Token, ...]
    sites: tuple[Site, ...]
    tree: xr.DataTree
    pictures: tuple[Image.Image, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The first prompt."""
        return self.run.prompts[0]

    def node(self, name: str) -> xr.Dataset:
        """One node as a Dataset. Raises NotRecorded, naming what there is."""
        if name.strip("/") not in {path.strip("/") for path in self.tree.groups}:
            raise NotRecorded(f"this trace holds no {name!r}; it holds {', '.join(self.tree.groups[1:]) or 'nothing'}")
        return self.tree[name].to_dataset()

    def word(self, label: str) -> str:
        """The label of a word, or of a special token. Raises NoSuchWord, listing the words."""
        labels = self.labels
        if label in labels:
            return label
        found = [w.label for w in self.words if w.text.casefold() == label.casefold()]
        if not found:
            raise NoSuchWord(f"{label!r} was not recorded; the words of this trace are: {', '.join(labels)}")
        return found[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all words and special tokens that have readings."""
        nodes = self.attention_nodes()
        return tuple(str(w) for w in nodes[0]["word"].values) if nodes else ()

    def attention_nodes(self) -> Sequence[xr.Dataset]:
        """The attention nodes, coarse to fine."""
        if "attention" not in self.tree.children:
            return ()
        nodes = [node.to_dataset() for node in self.tree["attention"].children.values()]
        return sorted(nodes, key=lambda d: d.sizes["y"] * d.sizes["x"])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(node.to_dataset().nbytes for node in self.tree.subtree)

    def __repr__(self) -> str:
        rows = [f"Trace of {self.prompt!r}, {self.run.steps} steps, {len(self.sites)} sites, {self.nbytes:,} bytes"]
        for node in self.tree.subtree:
            for name, array in node.data_vars.items():
                sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
                rows.append(f"  {node.path}/{name} ({sizes}) {array.dtype}")
        return "\n".join(rows)
