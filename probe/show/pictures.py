"""The pictures that a trace holds: the final ones and, step by step, what the model predicted."""

from collections.abc import Sequence

from PIL import Image

from probe.errors import NotRecorded
from probe.trace import Trace


def final_picture(trace: Trace, image: int = 0) -> Image.Image:
    """The picture, in RGB; the last predicted one if no picture was decoded. Raises NotRecorded."""
    if trace.pictures:
        if not 0 <= image < len(trace.pictures):
            raise NotRecorded(f"image {image} is not in this trace; it holds {len(trace.pictures)}, from 0")
        return trace.pictures[image].convert("RGB")
    steps = predicted_steps(trace)
    if not steps:
        raise NotRecorded("this trace holds neither pictures nor thumbnails; let the pipeline return PIL images")
    return predicted_pictures(trace, steps[-1:], image)[0].resize((trace.run.width, trace.run.height))


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
