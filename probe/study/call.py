"""How a pipeline is called for a job, and what of its output is a picture."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from probe.errors import BadInput, RecordingError
from probe.study.plan import Job
from probe.study.question import Study


def call(pipe: Any, jobs: Sequence[Job], study: Study) -> dict[str, Any]:
    """What the pipeline is called with: only what the study says, one generator a picture. Raises BadInput."""
    generator = import_module("torch").Generator
    first, alone = jobs[0], len(jobs) == 1
    width, height = study.size or (None, None)
    negative = study.negative if study.negative is None or alone else [study.negative] * len(jobs)
    asked = {
        "negative_prompt": negative,
        "num_inference_steps": first.steps,
        "guidance_scale": first.guidance,
        "width": width,
        "height": height,
    }
    prompts = [job.row.prompt for job in jobs]
    seeded = [generator("cpu").manual_seed(job.seed) for job in jobs]
    given = {name: value for name, value in asked.items() if value is not None}
    unknown = [name for name in given if name not in inspect.signature(type(pipe).__call__).parameters]
    if unknown:
        raise BadInput(f"{type(pipe).__name__} takes no {', '.join(unknown)}: leave it out of the study")
    single = {"prompt": prompts[0], "generator": seeded[0]} if alone else {"prompt": prompts, "generator": seeded}
    return {**single, **given, "output_type": "np"}


def finite(pixels: Any) -> Image.Image:
    """A picture from shares [y, x, rgb] in 0..1. Raises RecordingError for NaN, BadInput for what is no picture."""
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise BadInput(f"the pipeline gave {pixels.shape}, expected (y, x, 3): studies are of pictures")
    if not np.isfinite(pixels).all():
        raise RecordingError("the picture holds NaN: lower the guidance or the strength, or take float32")
    return Image.fromarray((pixels * 255).round().astype(np.uint8))
