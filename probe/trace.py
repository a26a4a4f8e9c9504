"""A trace: the frozen record of one generation. It holds no model and needs no torch.

`tree` is an xarray.DataTree with these nodes, each present only if it was recorded:

/attention/{H}x{W}  attention    (site, step, branch, image, word, y, x)  float32: mean over heads of the probability
                                 that a cell gives to the word (summed over the word's tokens); for a video the node
                                 is {F}x{H}x{W}, with `frame`, a frame of the latents, before y, x
                    timestep     (step)
                    steps        (step): of how many steps, from `step` on, each entry is the mean, if of several
/heads/{H}x{W}      attention    (site, step, branch, image, head, word, y, x): the same for single heads
/relations/...      (site, step, branch, image, ...)  float32, means over heads, timestep, steps; between other tokens:
  text_to_image/{H}x{W}            share     (word, y, x): what a word, the mean of its tokens, gives to each cell
  text_to_text                     share     (word, to_word): what it gives to each word
  image_to_image/mean/{H}x{W}      received  (y, x): what a cell gets, the mean over cells that ask
  image_to_image/rows/{H}x{W}      share     (cell, y, x): what chosen cells (attrs["cells"], y and x in 0..1) give
  image_to_image/columns/{H}x{W}   share     (cell, y, x): what is given to chosen cells
  image_to_image/low_rank/{H}x{W}  asking, asked (rank, y, x) and size (rank): P is about sum of size * asking asked^T
  image_to_image/full/{H}x{W}      share     (cell, y, x): all of P; only when asked for by name
  frame_to_frame/{F}x{H}x{W}       share     (frame, to_frame): what the cells of a frame give to each frame
/guidance           cond_norm, uncond_norm, difference_norm, guided_norm, update_norm, update_ratio, cosine_previous,
                    cosine_final (step, image): see probe.attach.kept.guidance; attributes name the method
                    magnitude    (step, image, y, x): norm over channels of cond - uncond
/latents            latents      (time, image, channel, y, x) float16: before each step, and after the last
                    predicted    (step, image, channel, y, x) float16: the predicted x0
                    predicted_cond, predicted_uncond or predicted_negative, ...: of each branch, where several ran
/scheduler          alpha, sigma, scale (step): the noise level; output_norm, sample_norm, step_norm (step, image): what
                    the scheduler was given and how far it went, see probe.attach.kept.stepping
/modules/{name}     outputs of chosen modules; further axes are those of the output: channel, y and x, token, frame
                    norm         (step, branch, image, ...)  float32: L2 norm over channels
                    mean         (step, branch, image, channel): mean over all else
                    output       (step, branch, image, ...): the whole output, if recorded with ":whole"
                    a module that runs again in a pass is "{name}-run2", a second value that it returns "{name}-1"
/text/{encoder}     states       (branch, prompt, layer, token, channel) float16: layer 0 are the embeddings, layer i
                                 the states after block i
                    output       (branch, prompt, token, channel): the last states, normed, as the encoder gives them
                    ids          (branch, prompt, token): the ids that it read; -1 where a row is shorter
/thumbnails         thumbnails   (step, image, y, x, rgb) uint8: the predicted x0, small; `made`: "fitted" or "decoded"

Results of explain=, at its own steps; units and settings are in the attributes; for videos,
`frame` comes before y, x:

/leave_one_out      magnitude    (step, image, word, y, x); norm, share (step, image, word);
                    interaction  (step, image), total
/shapley            value        (step, image, word, y, x); share, error (step, image, word)
/concepts/{H}x{W}   score        (site, step, image, word, y, x); for a video /concepts/{F}x{H}x{W}
/gradients/latents  map          (step, image, word, y, x); value, baseline, delta (step, image, word)
/gradients/text     score        (step, image, word); value, baseline, delta (step, image)
                    with a label, each under that name
/roles/ablation     effect       (step, image, site, word)
/roles/patching     recovered    (step, image, site); together, gap (step, image)
/lens               pictures     (layer, y, x, rgb) uint8: made with this many layers of attrs["encoder"]
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import xarray as xr
from PIL import Image
from pydantic import BaseModel, ConfigDict

from probe.axes import BRANCH, IMAGE, SITE, STEP, WORD
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.narrow import members, narrow, read_words, several, silence, silent
from probe.site import Site, select
from probe.words import Token, Word, label_like


class Run(BaseModel):
    """What was asked for and with what: enough to run it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: tuple[str, ...]
    images_per_prompt: int = 1
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

    def rank_of(self, image: int) -> int:
        """Which prompt a picture was made for, from 0."""
        return min(image // self.images_per_prompt, len(self.prompts) - 1)

    def prompt_of(self, image: int) -> str:
        """The prompt that a picture was made for."""
        return self.prompts[self.rank_of(image)]

    def text_of(self, image: int, branch: str) -> str:
        """The text that a branch reads for a picture, and which of the two it is: "prompt 'a cat'"."""
        if branch.partition("#")[0] == "cond":
            return f"prompt {self.prompt_of(image)!r}"
        texts = self.negative_prompts or ("",)
        return f"negative prompt {texts[min(self.rank_of(image), len(texts) - 1)]!r}"


@dataclass(frozen=True, eq=False)
class Trace:
    """The frozen record of one generation; see the module's docstring for the nodes of `tree`.

    `words` and `tokens` are of all prompts, one after the other; `negative_words`, `negative_tokens` of negative ones.
    """

    run: Run
    words: tuple[Word, ...]
    tokens: tuple[Token, ...]
    sites: tuple[Site, ...]
    tree: xr.DataTree
    pictures: tuple[Image.Image, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    negative_words: tuple[Word, ...] = ()
    negative_tokens: tuple[Token, ...] = ()

    @property
    def prompt(self) -> str:
        """The prompt of its first picture."""
        return self.run.prompt_of(min(self.along(IMAGE), default=0) if len(self.run.prompts) > 1 else 0)

    def node(self, name: str) -> xr.Dataset:
        """One node as a Dataset. Raises NotRecorded, naming what there is."""
        if name.strip("/") not in {path.strip("/") for path in self.tree.groups}:
            raise NotRecorded(f"this trace holds no {name!r}; it holds {', '.join(self.tree.groups[1:]) or 'nothing'}")
        return self.tree[name].to_dataset()

    def word(self, label: str) -> str:
        """The label of a word, however it is spelt, or of a special token. Raises NoSuchWord, listing the words."""
        found = label_like(str(label), self.labels)
        if found is None:
            raise NoSuchWord(f"{label!r} was not recorded; the words of this trace are: {', '.join(self.labels)}")
        return found

    def words_of(self, image: int) -> tuple[Word, ...]:
        """The words of the prompt that a picture was made for."""
        return tuple(word for word in self.words if word.prompt == self.run.rank_of(image))

    def tokens_of(self, image: int) -> tuple[Token, ...]:
        """The tokens of the prompt that a picture was made for."""
        return tuple(token for token in self.tokens if token.prompt == self.run.rank_of(image))

    def labels_of(self, image: int, branch: str | None = None) -> tuple[str, ...]:
        """Labels that have readings for a picture, in a branch or in any: words of another prompt have none."""
        return read_words(self.attention_nodes(), image, branch)

    def silence(self, label: str, image: int, branch: str | None = None) -> str:
        """What to say of a word without readings for a picture, in a branch or in any."""
        texts = {each: self.run.text_of(image, each) for each in ("cond", *self.along(BRANCH))}
        return silence(self.attention_nodes(), label, image, branch, texts)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all words and special tokens that have readings."""
        nodes = self.attention_nodes()
        return tuple(str(w) for w in nodes[0]["word"].values) if nodes else ()

    def attention_nodes(self, kind: Literal["attention", "heads"] = "attention") -> Sequence[xr.Dataset]:
        """The nodes of means over heads, or of single heads, coarse to fine."""
        if kind not in self.tree.children:
            return ()
        nodes = [node.to_dataset() for node in self.tree[kind].children.values()]
        return sorted(nodes, key=lambda d: d.sizes["y"] * d.sizes["x"])

    def shown(self, image: int) -> tuple[Image.Image, ...]:
        """The picture of this number in the batch, or all pictures of that film; empty if there are none."""
        images = self.along(IMAGE)
        each = len(self.pictures) // max(1, len(images))
        return self.pictures[images.index(image) * each :][:each] if image in images else ()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(node.to_dataset().nbytes for node in self.tree.subtree)

    def sel(
        self,
        *,
        word: str | Sequence[str] | None = None,
        step: int | slice | Sequence[int] | None = None,
        site: str | Sequence[str] | None = None,
        branch: str | Sequence[str] | None = None,
        image: int | slice | Sequence[int] | None = None,
    ) -> "Trace":
        """The part of this trace that is asked for. All axes stay, with fewer entries, which keep their numbers.

        Numbers and slices count as in a list: from 0, from the end when negative, without the stop. `site` is a pattern
        as in `probe.select`. The latents keep the states before and after each step, and of readings that are means of
        several steps (`steps`) those stay that begin with one of them. Run, words and tokens stay whole. Nothing is
        read from disk, but to see whether the words have readings for the steps, pictures or branches asked for.
        Raises NoSuchWord or NoMatch, listing what there is, when something asked for is not in the trace.
        """
        wanted: dict[str, set[Any]] = {}
        if word is not None:
            wanted[WORD] = {self.word(label) for label in several(word)}
        if site is not None:
            wanted[SITE] = {s.path for s in select(self.sites, site)}
        for axis, asked in ((STEP, step), (BRANCH, branch), (IMAGE, image)):
            if asked is not None:
                wanted[axis] = members(axis, asked, self.along(axis))
        if STEP in wanted:
            wanted["time"] = wanted[STEP] | {s + 1 for s in wanted[STEP]}
        paths, images = wanted.get(SITE), wanted.get(IMAGE)
        sites = tuple(s for s in self.sites if paths is None or s.path in paths)
        pictures = self.pictures if images is None else tuple(p for i in sorted(images) for p in self.shown(i))
        part = replace(self, sites=sites, tree=narrow(self.tree, wanted), pictures=pictures)
        if WORD in wanted and {STEP, BRANCH, IMAGE} & wanted.keys() and (lost := silent(part.attention_nodes())):
            first = part.along(BRANCH)[0] if BRANCH in wanted else None
            raise NoMatch(self.silence(lost[0], min(part.along(IMAGE)), first))
        return part

    def along(self, axis: str) -> tuple[Any, ...]:
        """The entries of an axis, over all nodes that have it: labels, or numbers."""
        nodes = [node.to_dataset() for node in self.tree.subtree]
        entries = [entry for d in nodes if axis in d.dims for entry in d[axis].values.tolist()]
        if axis == IMAGE and not entries:
            return tuple(range(len(self.pictures)))
        return tuple(dict.fromkeys(entries))

    def save(self, folder: str | Path, *, exist_ok: bool = False) -> Path:
        """Write a new folder, whole or not at all; see `probe.store.write_trace`."""
        from probe.store import write_trace  # the store stands on this file

        return write_trace(self, folder, exist_ok=exist_ok)

    @staticmethod
    def open(folder: str | Path) -> "Trace":
        """A saved trace, its arrays read when they are used; see `probe.store.open_trace`."""
        from probe.store import open_trace

        return open_trace(folder)

    def to_xarray(self) -> xr.DataTree:
        """A copy of `tree` whose root says what was run."""
        tree = self.tree.copy()
        tree.attrs |= {"prompt": self.prompt, "model": self.run.model, "seed": self.run.seed}
        return tree

    def equals(self, other: "Trace") -> bool:
        """Whether two traces hold the same: run, words, arrays with names and attributes, pixels. Reads everything."""
        return self._flat() == other._flat() and self.tree.identical(other.tree)

    def _flat(self) -> tuple[Any, ...]:
        """All but the tree, as values that compare."""
        tables = self.words, self.tokens, self.sites, self.negative_words, self.negative_tokens
        pixels = [(picture.mode, picture.size, picture.tobytes()) for picture in self.pictures]
        return tables, _listed(self.run.model_dump()), _listed(self.extra), pixels

    def _repr_html_(self) -> str:
        rows = [("seed", self.run.seed), ("steps", self.run.steps), ("model", self.run.model)]
        rows += [("words", ", ".join(self.labels)), ("sites", len(self.sites)), ("bytes", f"{self.nbytes:,}")]
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(text))}</td></tr>" for name, text in rows
        )
        small = "".join(inline(picture) for picture in self.pictures[:4])
        arrays = html.escape("\n".join(repr(self).split("\n")[1:]))
        title = f"<b>Trace</b> of {html.escape(self.prompt[:300])}"
        details = f"<details><summary>arrays</summary><pre>{arrays}</pre></details>"
        return f"<div>{title}<br>{small}<table>{cells}</table>{details}</div>"

    def __repr__(self) -> str:
        rows = [f"Trace of {self.prompt!r}, {self.run.steps} steps, {len(self.sites)} sites, {self.nbytes:,} bytes"]
        for node in self.tree.subtree:
            for name, array in node.data_vars.items():
                sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
                rows.append(f"  {node.path}/{name} ({sizes}) {array.dtype}")
        return "\n".join(rows)


def _listed(value: Any) -> Any:
    """Tuples as lists, so that values compare equal after a round trip through a file; NaN as text."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in cast(Mapping[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in cast(Sequence[Any], value)]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def inline(picture: Image.Image, side: int = 96) -> str:
    """The picture, small, as HTML for a notebook."""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    sink = io.BytesIO()
    small.save(sink, format="PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"> '
