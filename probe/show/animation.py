"""Moving pictures: a word's map over the steps of a run, or over the frames of a film."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw

from probe.errors import BadInput
from probe.heatmap import Heatmap
from probe.readings import ALL, UNITS, Choice, frame_maps, word_maps
from probe.show import style
from probe.show.page import check_target, publish
from probe.show.pictures import film_pictures, final_picture, latent_frames, predicted_pictures
from probe.show.render import Scale, blend, step_names
from probe.show.sheet import fit, font_of
from probe.trace import Trace

FORMATS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}
SIDE, LEAST = 384, 240  # pixels of the longer side of a picture, and of the narrowest canvas
PACE, FILM, HOLD = 200, 125, 1500  # milliseconds of a step, of a film's picture, and of the last step
FONT, LINE, EDGE, BAR = 13, 17, 8, 6  # pixels: of type, a line of it, the margins, and the colour scale's height
TOP = 2 * EDGE + LINE + 2  # where the picture begins


@dataclass(frozen=True, eq=False)
class Animation:
    """Pictures of one size, what each of them is called, and how many milliseconds it stays."""

    pictures: tuple[Image.Image, ...]
    titles: tuple[str, ...]
    durations: tuple[int, ...]

    def save(self, path: str | os.PathLike[str], *, exist_ok: bool = False) -> Path:
        """Write it as GIF (256 colours for all pictures together), PNG or WebP, by the ending, and return the path.

        The file appears complete or not at all. Raises BadInput for another ending, OutputError for a path that exists
        (unless `exist_ok`) or cannot be written.
        """
        kind = FORMATS.get(Path(path).suffix.lower())
        if kind is None:
            raise BadInput(f"{path}: an animation is saved as {', '.join(FORMATS)}; name the file like one of them")
        return publish(self._encoded(kind), check_target(path, exist_ok))

    def _encoded(self, kind: str) -> bytes:
        first, *rest = _indexed(self.pictures) if kind == "GIF" else self.pictures
        more = {"lossless": True} if kind == "WEBP" else {}
        stream = io.BytesIO()
        first.save(stream, kind, save_all=True, append_images=rest, duration=list(self.durations), loop=0, **more)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        return self._encoded("PNG")

    def __repr__(self) -> str:
        width, height = self.pictures[0].size
        seconds = sum(self.durations) / 1000
        return f"Animation({len(self.pictures)} pictures, {width} x {height}, {seconds:.1f} s)"


def animation(trace: Trace, word: str, *, final: bool = False, side: int = SIDE, choice: Choice = ALL) -> Animation:
    """One word's map step by step, all on one scale, over what the model predicted at that step, in grey.

    A summary of a long run has one picture for each group of steps: the mean of their maps, over the picture predicted
    at the first. With `final`, and where no predicted pictures were kept (of films), the ground is the final picture.
    Raises NoSuchWord, NotRecorded (no attention, or no picture of either kind).
    """
    maps = word_maps(trace, [word], choice).isel(word=0)
    predicted = [] if final else predicted_pictures(trace, maps["step"].values.tolist(), choice.image)
    grounds = predicted or [final_picture(trace, choice.image, choice.frame)] * maps.sizes["step"]
    titles = [name if name.startswith("step ") else f"{name}, their mean" for name in step_names(maps)]
    pictures = _drawn(maps, grounds, titles, _size(trace, side))
    return Animation(pictures, tuple(titles), (*[PACE] * (len(titles) - 1), HOLD))


def film(trace: Trace, word: str, *, side: int = SIDE, choice: Choice = ALL) -> Animation:
    """One word's map over each picture of a film, in grey, all on one scale: the mean over the chosen steps.

    Pictures that were decoded from the same frame of the latents have the same map (`probe.show.pictures`).
    Raises NoSuchWord, NotRecorded (no film, no attention, or no pictures of the film).
    """
    maps, pictures = frame_maps(trace, word, choice), film_pictures(trace, choice.image)
    of = latent_frames(len(pictures), maps.sizes["frame"])
    titles = [f"frame {i}" if of[-1] == len(of) - 1 else f"frame {i}, latent {latent}" for i, latent in enumerate(of)]
    drawn = _drawn(maps.isel(frame=of), pictures, titles, _size(trace, side))
    return Animation(drawn, tuple(titles), (FILM,) * len(titles))


def _size(trace: Trace, side: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side has `side` pixels."""
    width, height = trace.run.width, trace.run.height
    return max(1, round(side * width / max(width, height))), max(1, round(side * height / max(width, height)))


def _drawn(
    maps: xr.DataArray, grounds: Sequence[Image.Image], titles: Sequence[str], size: tuple[int, int]
) -> tuple[Image.Image, ...]:
    """Maps (any, y, x) of one word over their grounds, on one scale, with titles and how far it has come."""
    scale, word = (float(maps.min()), float(maps.max())), str(maps["word"].item())
    canvas = _canvas(word, scale, size)
    shares = np.arange(1, len(titles) + 1) / len(titles)
    heatmaps = [Heatmap(plane, word, "attention", UNITS) for plane in maps]
    blended = [blend(ground.resize(size), each, scale) for ground, each in zip(grounds, heatmaps, strict=True)]
    return tuple(_filled(canvas, *each) for each in zip(blended, titles, shares.tolist(), strict=True))


def _canvas(word: str, scale: Scale, size: tuple[int, int]) -> Image.Image:
    """What all pictures have in common: the word above, the colour scale and the units below."""
    width, font = max(size[0], LEAST), font_of(FONT)
    below = TOP + size[1] + EDGE
    canvas = Image.new("RGB", (width + 2 * EDGE, below + 2 * LINE + EDGE), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((EDGE, EDGE), "".join(fit(word, font, width // 2, lines=1)), fill=style.LIGHT["ink"], font=font)
    low, high = (f"{value:.3g}" for value in scale)
    pen.text((EDGE, below), low, fill=style.LIGHT["ink"], font=font)
    pen.text((EDGE + width, below), high, fill=style.LIGHT["ink"], font=font, anchor="ra")
    pen.text((EDGE + width // 2, below + LINE), UNITS, fill=style.LIGHT["muted"], font=font, anchor="ma")
    first, last = (round(font.getlength(each)) + 2 * EDGE for each in (low, high))
    ramp = style.colour_map()(np.linspace(0, 1, width + 2 * EDGE - first - last), bytes=True)[:, :3]  # [x, rgb]
    canvas.paste(Image.fromarray(np.tile(ramp, (BAR, 1, 1))), (first, below + (LINE - BAR) // 2))
    return canvas


def _filled(canvas: Image.Image, pixels: np.ndarray, title: str, share: float) -> Image.Image:
    """The canvas with one picture ([y, x, rgb] 0..1), its title, and a line as long as the `share` that is over."""
    filled, picture = canvas.copy(), Image.fromarray((255 * pixels).round().astype(np.uint8))
    left = (filled.width - picture.width) // 2
    filled.paste(picture, (left, TOP))
    pen = ImageDraw.Draw(filled)
    pen.text((filled.width - EDGE, EDGE), title, fill=style.LIGHT["muted"], font=font_of(FONT), anchor="ra")
    pen.rectangle((left, TOP - 4, left + share * picture.width - 1, TOP - 3), fill=style.LIGHT["accent"])
    return filled


def _indexed(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures in 256 colours that all of them share, so that nothing flickers.

    They are shared out by an octree, which keeps the few cells that are brightest; a median cut turns them grey.
    """
    every = np.concatenate([np.asarray(picture)[::2, ::2] for picture in pictures])
    palette = Image.fromarray(every).quantize(256, method=Image.Quantize.FASTOCTREE)
    return [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
