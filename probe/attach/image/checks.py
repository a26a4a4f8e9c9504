"""What `record_image` is given, checked before any work."""

import inspect
from collections.abc import Mapping
from typing import Any

from probe.attach.arguments import check_pipeline, expect, is_number, is_whole, several, shown
from probe.attach.kept.thumbnails import decodes
from probe.errors import BadInput, NotAPipeline

METHODS = ("noise", "invert")
STEPS, SIZE = "give record_image's own steps=", "the image is taken at its own size, so resize it first"
RESERVED = {  # arguments of pipelines that a picture decides, or an argument of record_image
    "prompt": "give record_image's own prompt",
    "prompt_embeds": "give record_image's own prompt",
    "num_inference_steps": STEPS,
    "timesteps": STEPS,
    "sigmas": STEPS,
    "generator": "give record_image's own seed=",
    "latents": "they are made of the image",
    "height": SIZE,
    "width": SIZE,
    "num_images_per_prompt": "one image is recorded at a time",
    "output_type": "the trace holds its pictures, whatever the type",
}


def check(pipe: Any, prompt: Any, method: Any, seed: Any, guidance_scale: Any) -> None:
    """Raises BadInput, NotAPipeline."""
    check_pipeline(pipe)
    if method not in METHODS:
        raise BadInput(f"method={method!r} is not one of {', '.join(METHODS)}")
    if not isinstance(prompt, str):
        raise BadInput(f"prompt is {type(prompt).__name__}, expected one text for one picture")
    fits = is_whole(seed) and -(2**63) <= seed < 2**64
    expect("seed", seed, lambda _: fits, "a whole number of up to 64 bits, such as seed=0")
    scale = "a number, such as guidance_scale=5.0, or None for the pipeline's own (with 'invert': 1)"
    expect("guidance_scale", guidance_scale, lambda value: value is None or is_number(value), scale)
    _check_loop(pipe)


def _check_loop(pipe: Any) -> None:
    """Raises NotAPipeline for a pipeline whose loop cannot start at a picture."""
    taken, vae = inspect.signature(pipe.__call__).parameters, getattr(pipe, "vae", None)
    film = "num_frames" in taken
    if not film and not decodes(vae, getattr(getattr(vae, "config", None), "latent_channels", 0)):
        raise NotAPipeline(
            f"the latents of {type(pipe).__name__} are not its autoencoder's times one factor, so a picture cannot be "
            "taken in; take a model with an AutoencoderKL, or record a generation with probe.record"
        )
    if film or "image" in taken or "latents" not in taken:
        raise NotAPipeline(
            f"{type(pipe).__name__} is not a text-to-image pipeline that starts from given latents; make one of the "
            "same parts (diffusers.AutoPipelineForText2Image.from_pipe(pipe)), or record its own call with probe.record"
        )


def call_of(pipe: Any, call: Any) -> dict[str, Any]:
    """More of the pipeline's own arguments; it takes them, and some pipelines drop others without a word.

    Raises BadInput for one that it does not name, or that the picture decides.
    """
    if call is None:
        return {}
    example = "the pipeline's own arguments by name, such as call={'negative_prompt': 'a dog'}"
    expect("call", call, lambda value: isinstance(value, Mapping), example)
    reserved = [name for name in RESERVED if name in call]
    if reserved:
        raise BadInput(f"call={reserved}: {RESERVED[reserved[0]]}, and leave {reserved[0]!r} out")
    unknown = sorted(map(str, call.keys() - accepted(pipe, call).keys()))
    if unknown:
        raise BadInput(f"call={unknown}: {type(pipe).__name__} takes no such argument; look at help(pipe.__call__)")
    return dict(call)


def accepted(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline's call takes of this."""
    taken = inspect.signature(pipe.__call__).parameters
    return {name: value for name, value in given.items() if name in taken}


def timesteps_of(scheduler: Any, steps: Any) -> list[int]:
    """From much noise to little: as many as are asked for, in the middles of equal parts, or these very ones."""
    total = scheduler.config.num_train_timesteps
    expected = f"timesteps between 1 and {total - 1}, such as steps=[800, 500, 200], or how many of them: steps=10"
    if is_whole(steps):
        chosen = {round((i + 0.5) * total / steps) for i in range(steps)} if steps < total else set[int]()
    else:
        chosen = {int(step) for step in several("steps", steps, is_whole, expected)}
    if not chosen or min(chosen) < 1 or max(chosen) >= total:
        raise BadInput(f"steps={shown(steps)}: expected {expected}")
    return sorted(chosen, reverse=True)


def count_of(scheduler: Any, steps: Any) -> int:
    """How many steps an inversion makes. Raises BadInput."""
    most = scheduler.config.num_train_timesteps - 1  # some count from 1 on
    if not is_whole(steps) or not 1 <= steps <= most:
        raise BadInput(
            f"steps={shown(steps)}: an inversion takes a number of steps from 1 to {most}, such as steps=50; "
            "method='noise' takes timesteps"
        )
    return int(steps)
