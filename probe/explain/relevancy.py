"""Relevancy as an explanation: how much of each cell's output rests on a word, through all attention of the denoiser.

Unlike attention it follows the gradient of a target, so it counts only what raised the target, and it carries words
through self-attention, changes of resolution and skip connections. It lands on the text states, in which the encoder
has already mixed the words before them; it says nothing about what lowered the target (negative evidence is cut).
Rules: Chefer, Gur, Wolf, "Generic Attention-model Explainability" (2021), carried over to denoisers.
"""

import numpy as np

from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.heatmap import Heatmap
from probe.readings import Steps
from probe.trace import Trace

UNITS = "relevancy (gradient x attention)"


def relevancy(trace: Trace, word: str, *, steps: Steps = None, image: int = 0) -> Heatmap:
    """Mean over the explained steps of the relevancy of a word for each cell of the latents; 0 or more.

    `steps` are numbers of explained steps, a slice of them, or all. Raises NotRecorded (record with
    `explain=probe.Relevancy()`), NoSuchWord and NoMatch.
    """
    if "relevancy" not in trace.tree.children:
        raise NotRecorded(
            "this trace holds no relevancy; record it with "
            "`with probe.record(pipe, explain=probe.Relevancy()) as recording: pipe(prompt)`"
        )
    array = trace.node("relevancy")["relevancy"]
    words = [str(w) for w in array["word"].values]
    if word not in words:
        raise NoSuchWord(f"there is no relevancy of {word!r}; the words of this trace are: {', '.join(words)}")
    chosen = _steps(array["step"].values, steps)
    if not 0 <= image < array.sizes["image"]:
        raise NoMatch(f"there is no picture {image}; the pictures are 0 to {array.sizes['image'] - 1}")
    field = array.sel(word=word, step=chosen).isel(image=image).mean("step").drop_vars("word")
    provenance = {
        "prompt": trace.prompt,
        "model": trace.run.model,
        "seed": trace.run.seed,
        "target": array.attrs.get("target"),
        "box": array.attrs.get("box"),
        "steps": chosen,
        "image": image,
    }
    return Heatmap(field, word, "relevancy", UNITS, provenance)


def _steps(held: np.ndarray, steps: Steps) -> list[int]:
    known = [int(step) for step in held]
    if steps is None:
        return known
    if isinstance(steps, slice):
        wanted = [step for step in known if step in range(*steps.indices(known[-1] + 1))]
    else:
        wanted = [steps] if isinstance(steps, int) else list(steps)
    if not wanted or not set(wanted) <= set(known):
        raise NoMatch(f"steps={steps!r} is not among the explained steps: {known}")
    return wanted
