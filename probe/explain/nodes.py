"""What an inquiry found, as a heatmap: how every explainer that has a recording of its own reads it."""

from dataclasses import dataclass

import xarray as xr

from probe.errors import NoSuchWord, NotRecorded
from probe.heatmap import Heatmap
from probe.readings import Steps, chosen_steps, of_frame
from probe.trace import Trace


@dataclass(frozen=True)
class Found:
    """Where an inquiry's maps lie in a trace (`node`, `variable`), and how they are asked for (`record`)."""

    node: str
    variable: str
    method: str
    record: str  # as it is written behind explain=

    def dataset(self, trace: Trace) -> xr.Dataset:
        """The node. Raises NotRecorded, saying how to record it."""
        if self.node not in {path.strip("/") for path in trace.tree.groups}:
            raise NotRecorded(
                f"this trace holds no {self.node}; record it with "
                f"`with probe.record(pipe, explain={self.record}) as recording: pipe(prompt)`"
            )
        return trace.node(self.node)

    def at(self, trace: Trace, steps: Steps, image: int, frame: int | None = None) -> xr.DataArray:
        """The variable at chosen steps of one picture, of a film in one frame or the mean over all.

        Raises NotRecorded, NoMatch.
        """
        return of_frame(self.every(trace, steps, image), frame)

    def every(self, trace: Trace, steps: Steps, image: int) -> xr.DataArray:
        """The same with the frames of a film apart."""
        array = self.dataset(trace)[self.variable]
        images = array["image"].values.tolist()
        if image not in images:
            raise NotRecorded(f"{self.node} holds no picture {image}; it holds {', '.join(map(str, images))}")
        chosen = chosen_steps(steps, array["step"].values.tolist(), trace.run.steps)
        return array.sel(image=image, step=chosen).drop_vars("image", errors="ignore")

    def map(self, trace: Trace, word: str, *, steps: Steps = None, image: int = 0, frame: int | None = None) -> Heatmap:
        """The mean over the chosen steps of a word's map. Raises NotRecorded, NoSuchWord, NoMatch."""
        array = self.at(trace, steps, image, frame)
        label = spelt(word, array["word"].values.tolist(), self.node)
        field = array.sel(word=label).drop_vars("word").mean("step", keep_attrs=True)
        more = {name: value for name, value in self.dataset(trace).attrs.items() if name != "units"}
        return Heatmap(field, label, self.method, array.attrs["units"], provenance(trace, array, image, frame) | more)


def spelt(word: str, labels: list[str], node: str) -> str:
    """The label of a word among those of a node; case does not count. Raises NoSuchWord, listing them."""
    found = [label for label in labels if label.casefold() == word.casefold()]
    if not found:
        raise NoSuchWord(f"{node} holds nothing of {word!r}; its words are: {', '.join(labels)}")
    return word if word in found else found[0]


def provenance(trace: Trace, array: xr.DataArray, image: int, frame: int | None = None) -> dict[str, object]:
    """What every heatmap says of where it comes from; the frame of a film where one was chosen."""
    return {
        "prompt": trace.run.prompt_of(image),
        "model": trace.run.model,
        "seed": trace.run.seed,
        "steps": array["step"].values.tolist(),
        "image": image,
        **({} if frame is None else {"frame": frame}),
    }
