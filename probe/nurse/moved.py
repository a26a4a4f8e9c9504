"""How far an intervention moved a picture from the plain run with the same seed."""

from dataclasses import replace

import numpy as np
import xarray as xr

from probe.axes import IMAGE, STEP
from probe.errors import BadInput, NotRecorded
from probe.trace import Trace


def moved(trace: Trace, plain: Trace) -> xr.Dataset:
    """What changed between two runs of the same seed, prompt and steps.

    latents    (time, image)  |z - z_plain| / |z_plain|, before each step and after the last
    predicted  (step, image)  the same of the predicted clean latents
    picture    (image)        root mean square difference of the pixels, 0..1; absent where a run made no pictures

    It says how much, not whether for the better. Raises NotRecorded without latents, BadInput for runs that do not go
    together.
    """
    ours, theirs = trace.node("latents"), plain.node("latents")
    one, other = ours["latents"].shape, theirs["latents"].shape
    if trace.run.seed != plain.run.seed or one != other:
        raise BadInput(
            f"these runs cannot be compared: seeds {trace.run.seed} and {plain.run.seed}, latents of {one} and "
            f"{other}; record both with one seed, size and number of steps"
        )
    found = {name: ((axis, IMAGE), _far(ours[name].values, theirs[name].values)) for name, axis in AXES.items()}
    pictures = zip(trace.pictures, plain.pictures, strict=False)
    pixels = [_pixels(np.asarray(a.convert("RGB")), np.asarray(b.convert("RGB"))) for a, b in pictures]
    return xr.Dataset(found | ({"picture": ((IMAGE,), np.array(pixels))} if pixels else {}))


def with_moved(trace: Trace, plain: Trace) -> Trace:
    """The trace with how far its ends are from the plain run's in `extra["moved"]`, as numbers of each picture."""
    found = moved(trace, plain)
    ends = {"latents": found["latents"].isel(time=-1).values.tolist()}
    ends |= {"picture": found["picture"].values.tolist()} if "picture" in found else {}
    return replace(trace, extra=trace.extra | {"moved": ends})


def how_far(trace: Trace, image: int = 0) -> str:
    """The same in words. Raises NotRecorded for a trace without it."""
    if "moved" not in trace.extra:
        raise NotRecorded("this trace was not compared with a plain run; use probe.nurse.with_moved(trace, plain)")
    ends = trace.extra["moved"]
    pixels = f", its pixels by {ends['picture'][image]:.0%} of white" if "picture" in ends else ""
    return (
        f"from the plain picture the nursed one is away by {ends['latents'][image]:.0%} of the latents' norm"
        f"{pixels} (root mean square)"
    )


AXES = {"latents": "time", "predicted": STEP}


def _far(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """[time, image, ...] -> [time, image]."""
    a, b = (x.astype(np.float64).reshape(*x.shape[:2], -1) for x in (ours, theirs))
    return np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1).clip(1e-12)


def _pixels(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2))) / 255
