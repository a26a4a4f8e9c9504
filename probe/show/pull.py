"""Where guidance pulls, step by step, over what the model predicted."""

import numpy as np
from matplotlib.figure import Figure

from probe.errors import NotRecorded
from probe.show import style
from probe.show.pictures import predicted_pictures
from probe.show.render import colour_scale, heading, picture_rows, show_picture
from probe.show.text import spread
from probe.trace import Trace

PULL_UNITS = "norm of with − without prompt"


def guidance_strip(trace: Trace, *, steps: int = 8, image: int = 0) -> Figure:
    """The predicted picture at `steps` steps spread over the run, and below it where guidance pulled, on one scale.

    It shows the prompt's pull as a whole, not a word's. Raises NotRecorded where no second branch ran.
    """
    node = trace.node("guidance")
    if "magnitude" not in node:
        raise NotRecorded("this run had no branch without the prompt (guidance off, or distilled): nothing pulled")
    every = node["magnitude"].sel(image=image)
    shown = spread(every["step"].values.tolist(), steps)
    maps = every.sel(step=shown)
    pictures = predicted_pictures(trace, shown, image)
    names = ["predicted", "pull"] if pictures else ["pull"]
    figure, axes = picture_rows(len(names), len(shown), maps.sizes["y"] / maps.sizes["x"])
    for ax, picture in zip(axes[0], pictures, strict=False):
        show_picture(ax, picture, "")
    scale = float(maps.min()), float(maps.max())
    for ax, plane in zip(axes[-1], np.asarray(maps.values), strict=True):
        ax.imshow(plane, cmap=style.colour_map(), vmin=scale[0], vmax=scale[1], interpolation="nearest")
        style.picture_axes(ax)
    for ax, step in zip(axes[0], shown, strict=True):
        ax.set_title(f"step {step}", **style.type_of(style.LABEL, style.LIGHT["muted"]))
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(name, **style.type_of(style.LABEL))
    colour_scale(figure, [ax for row in axes for ax in row], scale, PULL_UNITS)
    heading(figure, trace, image)
    return figure
