"""`record_image`: the trace of a picture that exists already, from the pipeline's own loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.attach.borrow import leases
from probe.attach.image.checks import accepted, call_of, check, count_of, timesteps_of
from probe.attach.image.picture import drawn, encoded, fitted, opened, psnr
from probe.attach.image.schedules import Noised, exchanged, plain, upward
from probe.attach.model.families import denoiser, denoisers, family
from probe.attach.model.layout import packed
from probe.attach.record import record
from probe.attach.recording import Recording
from probe.errors import BadInput
from probe.trace import Trace


def record_image(
    pipe: Any,
    image: Image.Image | str | PathLike[str],
    prompt: str,
    *,
    method: Literal["noise", "invert"] = "noise",
    steps: int | Sequence[int] | None = None,
    seed: int = 0,
    guidance_scale: float | None = None,
    call: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trace:
    """The trace of an existing picture, or of its file, under a prompt; its size is its own, cut down to whole cells.

    "noise": noise is added to the picture (drawn from `seed`), once for each of `steps` timesteps, and the denoiser
    looks at each once: as many (10) spread evenly, or these very timesteps. `trace.pictures` holds the picture itself.
    "invert": the picture is followed up to its noise (DDIM inversion, Song et al. 2021; Euler for flows) and generated
    again in as many steps (50), which is what is recorded; `trace.pictures` holds what came back, which is close only
    without guidance (`guidance_scale` 1, the default here) and with many steps.
    `call`: more of the pipeline's own arguments, such as negative_prompt; `options`: those of `record`, except `steps`.
    `trace.extra["image"]` says how well that went: `vae_psnr`, the autoencoder's own there and back (dB), and for
    "invert" `psnr` (dB) and `latent_rmse` of the whole way.
    Raises NotAPipeline where the pipeline's autoencoder or loop cannot take a picture in, BadInput, and as `record`.
    """
    check(pipe, prompt, method, seed, guidance_scale)
    if options.get("dry_run"):
        raise BadInput("dry_run ends before there is a trace: ask probe.record for it, with pipe(prompt) in its block")
    given = {"prompt": prompt, **call_of(pipe, call)}
    loop = _Loop(pipe, given if guidance_scale is None else given | {"guidance_scale": guidance_scale})
    picture, recording = fitted(opened(image), pipe, family(pipe)), record(pipe, **options)
    wait = options.get("wait", 0.0)  # before the scheduler is exchanged, which other threads run under
    with leases(denoisers(pipe).values(), wait):
        if method == "noise":
            return loop.noised(picture, recording, 10 if steps is None else steps, seed)
        return loop.inverted(picture, recording, 50 if steps is None else steps)


@dataclass(frozen=True)
class _Loop:
    """A pipeline's own loop, with what it is called with."""

    pipe: Any
    given: dict[str, Any]

    def noised(self, picture: Image.Image, recording: Recording, steps: int | Sequence[int], seed: int) -> Trace:
        """One pass at each timestep."""
        timesteps = timesteps_of(self.pipe.scheduler, steps)
        latents, report = self._encoded(picture)
        z = packed(latents, family(self.pipe))
        generator = torch.Generator("cpu").manual_seed(seed)
        eps = torch.randn(z.shape, generator=generator).to(z.device)
        noised = Noised(plain(self.pipe.scheduler), z, eps, timesteps)
        with noised.shown(self.pipe), recording:
            self._run(picture, noised.at(timesteps[0]), len(timesteps), generator=generator)
        report |= {"method": "noise", "timesteps": timesteps}
        return _told(replace(recording.trace, pictures=(picture,)), report)

    def inverted(self, picture: Image.Image, recording: Recording, steps: int | Sequence[int]) -> Trace:
        """Up to the noise, unseen, and down again."""
        count = count_of(self.pipe.scheduler, steps)
        latents, report = self._encoded(picture)
        still = replace(self, given=accepted(self.pipe, {"guidance_scale": 1.0}) | self.given)
        with upward(self.pipe):
            z = packed(latents, family(self.pipe))
            noise = still._run(picture, z, count, output_type="latent")[0]
        with exchanged(self.pipe, plain(self.pipe.scheduler)), recording:
            still._run(picture, noise, count)
        trace = recording.trace
        report |= {"method": "invert", "steps": count, "psnr": psnr(picture, trace.pictures[0])}
        return _told(trace, report | {"latent_rmse": _rmse(trace, latents)})

    def _encoded(self, picture: Image.Image) -> tuple[Tensor, dict[str, Any]]:
        """The picture's latents, and how well they are decoded again."""
        z = encoded(picture, self.pipe.vae)
        return z, {"vae_psnr": psnr(picture, drawn(z, self.pipe.vae))}

    def _run(self, picture: Image.Image, latents: Tensor, steps: int, **more: Any) -> Any:
        _, module = denoiser(self.pipe)
        start = {"latents": latents.to(module.dtype), "num_inference_steps": steps}
        return self.pipe(**accepted(self.pipe, _size(picture)) | self.given | start | more)


def _told(trace: Trace, report: dict[str, Any]) -> Trace:
    """The trace, with how well the picture was taken in."""
    return replace(trace, extra=trace.extra | {"image": report})


def _size(picture: Image.Image) -> dict[str, Any]:
    return {"height": picture.height, "width": picture.width, "use_resolution_binning": False}


def _rmse(trace: Trace, z: Tensor) -> float:
    """Root mean square difference of the last latents from those that the picture was."""
    last = trace.node("latents")["latents"].values[-1].astype(np.float64)
    return float(np.sqrt(((last - z.double().cpu().numpy()) ** 2).mean()))
