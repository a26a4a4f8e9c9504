"""Small runs of tiny pipelines, for the tests of nursing."""

from functools import cache
from typing import Any

import numpy as np
import torch

import probe
from probe.attach.recording import Recording
from probe.intervention import Intervention
from tests import pipelines

PROMPT = "a cat and a red balloon"
SIZES: dict[str, Any] = {"height": 32, "width": 48}
FEW: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent"}


@cache
def pipe(family: str) -> Any:
    """A pipeline that only these tests use."""
    return pipelines.load(family)


def draw(family: str, prompt: Any = PROMPT, *interventions: Intervention, **call: Any) -> np.ndarray:
    """Latents, or what `output_type` asks for."""
    if not interventions:
        return _run(family, prompt, call)
    return drawn(family, prompt, *interventions, **call)[0]


def drawn(family: str, prompt: Any, *interventions: Intervention, **call: Any) -> tuple[np.ndarray, Recording]:
    """The same with its recording."""
    with probe.record(pipe(family), words=[], interventions=interventions) as recording:
        result = _run(family, prompt, call)
    return result, recording


def _run(family: str, prompt: Any, call: dict[str, Any]) -> np.ndarray:
    count = len(prompt) if isinstance(prompt, list) else 1
    same = [torch.Generator().manual_seed(3) for _ in range(count)]
    overrides = SIZES | FEW | call | {"prompt": prompt}
    maker = pipelines.FAMILIES[family]
    output = pipe(family)(**maker.call | overrides, generator=same if count > 1 else same[0])
    return np.asarray(output[0].float() if isinstance(output[0], torch.Tensor) else output[0])
