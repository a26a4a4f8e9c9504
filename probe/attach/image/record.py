"""`record_image`: the trace of a picture that exists already, from the pipeline's own loop."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.attach.image.picture import drawn, encoded, fitted, psnr
from probe.attach.image.schedules import Noised, exchanged, plain, upward
from probe.attach.kept.thumbnails import decodes
from probe.attach.model.families import denoiser, family
from probe.attach.model.layout import packed
from probe.attach.record import record
from probe.errors import BadInput, NotAPipeline
from probe.trace import Trace

METHODS = ("noise", "invert")


def record_image(
    pipe: Any,
    image: Image.Image,
    prompt: str,
    *,
    method: Literal["noise", "invert"] = "noise",
    steps: int | Sequence[int] | None = None,
    seed: int = 0,
    guidance_scale: float | None = None,
    call: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trace:
    """The trace of an existing picture under a prompt; it is taken at its own size, cut down to whole cells.

    "noise": noise is added to the picture (drawn from `seed`), once for each of `steps` timesteps, and the denoiser
    looks at each once: as many (10) spread evenly, or these very timesteps. `trace.pictures` holds the picture itself.
    "invert": the picture is followed up to its noise (DDIM inversion, Song et al. 2021; Euler for flows) and generated
    again in as many steps (50), which is what is recorded; `trace.pictures` holds what came back, which is close only
    without guidance (`guidance_scale` 1, the default here) and with many steps.
    `call`: more of the pipeline's own arguments; `options`: those of `record`, except `steps`.
    `trace.extra["image"]` says how well that went: `vae_psnr`, the autoencoder's own there and back (dB), and for
    "invert" `psnr` (dB) and `latent_rmse` of the whole way.
    Raises NotAPipeline where the pipeline's autoencoder or loop cannot take a picture in, BadInput, and as `record`.
    """
    _check(pipe, prompt, method)
    _check_call(pipe, call or {})
    layout = family(pipe)
    picture = fitted(image, pipe, layout)
    z = encoded(picture, pipe.vae)
    report = {"method": method, "vae_psnr": psnr(picture, drawn(z, pipe.vae))}
    chosen = dict(call or {}) | ({} if guidance_scale is None else {"guidance_scale": guidance_scale})
    loop = _Loop(pipe, {"prompt": prompt, **_accepted(pipe, _size(picture)), **chosen}, options)
    if method == "noise":
        timesteps = _timesteps(pipe.scheduler, 10 if steps is None else steps)
        trace = loop.noised(packed(z, layout), timesteps, seed)
        return replace(trace, pictures=(picture,), extra=trace.extra | {"image": report | {"timesteps": timesteps}})
    count = 50 if steps is None else steps
    if not isinstance(count, int):
        raise BadInput(f"steps={steps!r}: an inversion takes a number of steps; method='noise' takes timesteps")
    trace = loop.inverted(packed(z, layout), count)
    report |= {"steps": count, "psnr": psnr(picture, trace.pictures[0]), "latent_rmse": _rmse(trace, z)}
    return replace(trace, extra=trace.extra | {"image": report})


@dataclass(frozen=True)
class _Loop:
    """A pipeline's own loop with what it is called with, and what is recorded of it."""

    pipe: Any
    given: dict[str, Any]
    options: Mapping[str, Any]

    def noised(self, z: Tensor, timesteps: list[int], seed: int) -> Trace:
        """One pass at each timestep."""
        generator = torch.Generator("cpu").manual_seed(seed)
        eps = torch.randn(z.shape, generator=generator).to(z.device)
        noised = Noised(plain(self.pipe.scheduler), z, eps, timesteps)
        with noised.shown(self.pipe), record(self.pipe, **self.options) as recording:
            self._run(noised.at(timesteps[0]), len(timesteps), generator=generator)
        return recording.trace

    def inverted(self, z: Tensor, steps: int) -> Trace:
        """Up to the noise, unseen, and down again."""
        still = _accepted(self.pipe, {"guidance_scale": 1.0})
        with upward(self.pipe):
            noise = self._run(z, steps, **still | self.given, output_type="latent")[0]
        with exchanged(self.pipe, plain(self.pipe.scheduler)), record(self.pipe, **self.options) as recording:
            self._run(noise, steps, **still | self.given)
        return recording.trace

    def _run(self, latents: Tensor, steps: int, **more: Any) -> Any:
        _, module = denoiser(self.pipe)
        start = {"latents": latents.to(module.dtype), "num_inference_steps": steps}
        return self.pipe(**self.given | start | more)


def _check(pipe: Any, prompt: str, method: str) -> None:
    """Raises BadInput, NotAPipeline."""
    if method not in METHODS:
        raise BadInput(f"method={method!r} is not one of {', '.join(METHODS)}")
    if not isinstance(prompt, str):
        raise BadInput(f"prompt is {type(prompt).__name__}, expected one text for one picture")
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


def _check_call(pipe: Any, call: Mapping[str, Any]) -> None:
    """Raises BadInput for an argument that the pipeline does not name; some drop such without a word."""
    unknown = sorted(call.keys() - _accepted(pipe, call).keys())
    if unknown:
        raise BadInput(f"call={unknown}: {type(pipe).__name__} takes no such argument; look at help(pipe.__call__)")


def _accepted(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline's call takes of this."""
    taken = inspect.signature(pipe.__call__).parameters
    return {name: value for name, value in given.items() if name in taken}


def _size(picture: Image.Image) -> dict[str, Any]:
    return {"height": picture.height, "width": picture.width, "use_resolution_binning": False}


def _timesteps(scheduler: Any, steps: int | Sequence[int]) -> list[int]:
    """From much noise to little: as many as are asked for, in the middles of equal parts, or these very ones."""
    total = scheduler.config.num_train_timesteps
    if isinstance(steps, int):
        steps = [round((i + 0.5) * total / steps) for i in range(steps)]
    chosen = sorted(set(steps), reverse=True)
    if not chosen or chosen[-1] < 1 or chosen[0] >= total:
        raise BadInput(f"steps={list(steps)}: give timesteps between 1 and {total - 1}, or how many of them")
    return chosen


def _rmse(trace: Trace, z: Tensor) -> float:
    """Root mean square difference of the last latents from those that the picture was."""
    last = trace.node("latents")["latents"].values[-1].astype(np.float64)
    return float(np.sqrt(((last - z.double().cpu().numpy()) ** 2).mean()))
