"""A film's maps as a figure: what a word got in its frames."""

from matplotlib.figure import Figure

from probe.heatmap import Heatmap
from probe.readings import ALL, UNITS, Choice, frame_maps
from probe.show import style
from probe.show.pictures import film_pictures, final_picture, latent_frames
from probe.show.render import colour_scale, heading, overlay, picture_rows, show_picture
from probe.show.text import shorten, spread
from probe.trace import Trace


def film_strip(trace: Trace, word: str, *, frames: int = 8, choice: Choice = ALL) -> Figure:
    """One word's map in `frames` frames of the latents, spread over the film, over the pictures decoded from them.

    Each column shows the middle one of its pictures, which the title counts, and below it the map, the mean over the
    chosen steps; all maps have one scale. Raises NoSuchWord, NotRecorded (no film, or no pictures of it).
    """
    maps = frame_maps(trace, word, choice)
    of = latent_frames(len(film_pictures(trace, choice.image)), maps.sizes["frame"])
    shown = spread(range(maps.sizes["frame"]), frames)
    figure, axes = picture_rows(2, len(shown), trace.run.height / trace.run.width)
    scale = float(maps.min()), float(maps.max())
    for above, below, frame in zip(*axes, shown, strict=True):
        picture = final_picture(trace, choice.image, frame)
        show_picture(above, picture, _title(of, frame))
        overlay(picture, Heatmap(maps.isel(frame=frame), word, "attention", UNITS), ax=below, scale=scale)
        below.set_title("")
    for row, label in zip(axes, ("film", shorten(trace.word(word), 12)), strict=True):
        row[0].set_ylabel(label, **style.type_of(style.LABEL))
    colour_scale(figure, [ax for row in axes for ax in row], scale, UNITS)
    heading(figure, trace, choice.image)
    return figure


def _title(of: list[int], frame: int) -> str:
    own = [i for i, each in enumerate(of) if each == frame]
    return f"frame {own[0]}" if len(own) == 1 else f"frames {own[0]}–{own[-1]}"
