"""The pictures that a trace holds: the final ones, those of films, and, step by step, what the model predicted."""

from collections.abc import Sequence

from PIL import Image

from probe.errors import NotRecorded
from probe.readings import frames
from probe.trace import Trace


def final_picture(trace: Trace, image: int = 0, frame: int | None = None) -> Image.Image:
    """The picture, in RGB; the last predicted one if no picture was decoded. Raises NotRecorded.

    Of a film it is the first picture, or the middle one of those that were decoded from a frame of the latents.
    """
    if frame is not None:
        film = film_pictures(trace, image)
        own = [i for i, of in enumerate(latent_frames(len(film), frames(trace))) if of == frame % frames(trace)]
        return film[own[len(own) // 2]]
    if trace.pictures:
        shown = trace.shown(image)
        if not shown:
            there = ", ".join(map(str, trace.along("image")))
            raise NotRecorded(f"this trace has no picture of image {image}; it holds image {there}")
        return shown[0].convert("RGB")
    steps = predicted_steps(trace)
    if not steps:
        raise NotRecorded("this trace holds neither pictures nor thumbnails; let the pipeline return PIL images")
    return predicted_pictures(trace, steps[-1:], image)[0].resize((trace.run.width, trace.run.height))


def film_pictures(trace: Trace, image: int = 0) -> list[Image.Image]:
    """The pictures of a film in their order, in RGB. Raises NotRecorded where there are fewer than latent frames."""
    shown, count = trace.shown(image), frames(trace)
    if len(shown) < count:
        raise NotRecorded(
            f"this trace holds {len(shown)} pictures of a video with {count} latent frames; "
            "let the pipeline return the video, not latents (output_type), while it is recorded"
        )
    return [picture.convert("RGB") for picture in shown]


def latent_frames(pictures: int, count: int) -> list[int]:
    """For each of a film's pictures, which of the latents' `count` frames it was decoded from.

    Causal autoencoders decode the first latent frame to one picture and each other one to r: 1 + r (count - 1) pictures
    (CogVideoX, Wan, HunyuanVideo: r = 4; LTX: 8). AnimateDiff has r = 1. What fits neither is spread evenly.
    """
    r, rest = divmod(pictures - 1, max(1, count - 1))
    if rest or not r:
        return [i * count // pictures for i in range(pictures)]
    return [-(-i // r) for i in range(pictures)]


def predicted_steps(trace: Trace) -> list[int]:
    """The steps at which a predicted picture was kept."""
    if "thumbnails" not in trace.tree.children:
        return []
    return trace.node("thumbnails")["step"].values.tolist()


def predicted_pictures(trace: Trace, steps: Sequence[int], image: int = 0) -> list[Image.Image]:
    """The picture predicted at each step, small; an empty list if none were kept for these steps."""
    if not steps or not set(steps) <= set(predicted_steps(trace)):
        return []
    kept = trace.node("thumbnails")["thumbnails"].sel(step=list(steps), image=image)
    return [Image.fromarray(pixels) for pixels in kept.transpose("step", "y", "x", "rgb").values]
