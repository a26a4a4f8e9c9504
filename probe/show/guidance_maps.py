"""Where guidance pulls, step by step, over what the model predicted."""

from matplotlib.figure import Figure

from probe.errors import NotRecorded
from probe.readings import of_frame
from probe.show.pictures import predicted_pictures
from probe.show.render import heading, strip_of
from probe.show.text import spread
from probe.trace import Trace

PULL_UNITS = "norm of with − without prompt"


def guidance_strip(trace: Trace, *, steps: int = 8, image: int = 0) -> Figure:
    """The predicted picture at `steps` steps spread over the run, and below it where guidance pulled, on one scale.

    It shows the prompt's pull as a whole, not a word's; of a film its mean over frames. Raises NotRecorded where no
    second branch ran.
    """
    node = trace.node("guidance")
    if "magnitude" not in node:
        raise NotRecorded("this run had no branch without the prompt (guidance off, or distilled): nothing pulled")
    every = of_frame(node["magnitude"].sel(image=image), None)
    shown = spread(every["step"].values.tolist(), steps)
    figure = strip_of(every.sel(step=shown), predicted_pictures(trace, shown, image), "pull", PULL_UNITS)
    heading(figure, trace, image)
    return figure
