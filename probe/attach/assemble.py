"""From what a take has seen to a frozen Trace: the one move from the model's device to the host."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.attach.families import denoiser
from probe.attach.take import Take
from probe.attach.thumbnails import thumbnails
from probe.axes import READING
from probe.errors import MissingReadings
from probe.site import Site
from probe.trace import Run, Trace

PACKAGES = ("diffusion-probe", "torch", "diffusers", "transformers", "numpy", "xarray", "zarr")


def assemble(take: Take, pipe: Any, seconds: float, extra: dict[str, Any] | None = None) -> Trace:
    """A Trace of everything that the take holds."""
    nodes = {**attention_nodes(take), **guidance_node(take), **latent_node(take), **thumbnail_node(take, pipe)}
    return Trace(
        run=run_of(take, pipe, seconds),
        words=take.prompts[0].words,
        tokens=take.prompts[0].tokens,
        sites=take.attention.sites(),
        tree=xr.DataTree.from_dict(nodes),
        pictures=tuple(take.pictures),
        extra=extra or {},
    )


def attention_nodes(take: Take) -> dict[str, xr.Dataset]:
    """One dataset a grid: attention (site, step, branch, image, word, y, x)."""
    reader = take.attention
    places = {
        key: place.site for key, place in reader.places.items() if place is not None and place.site.kind != "self"
    }
    grids = dict.fromkeys(site.grid for site in places.values())
    return {
        f"/attention/{h}x{w}": _grid_node(take, {k: s for k, s in places.items() if s.grid == (h, w)}) for h, w in grids
    }


def _grid_node(take: Take, places: dict[tuple[str, int], Site]) -> xr.Dataset:
    maps, labels = take.attention.maps, _labels(take)
    branches = [b for b in take.attention.branches if any(branch == b for _, _, branch in maps)]
    site_rows = []
    for key in places:
        step_rows = []
        for step in range(take.step):
            rows = [_images(maps, (step, key, branch), take, labels) for branch in branches]
            step_rows.append(torch.stack(rows))
        site_rows.append(torch.stack(step_rows))
    sites = list(places.values())
    values = torch.stack(site_rows).float().cpu().numpy()  # [site, step, branch, image, word, cell]
    values = values.reshape(*values.shape[:-1], *sites[0].grid)
    coords = {
        "site": [site.path for site in sites],
        "step": np.arange(take.step),
        "branch": branches,
        "word": labels,
        "timestep": ("step", np.array(take.guidance.timesteps[: take.step])),
    }
    return xr.Dataset({"attention": (READING, values)}, coords=coords)


def _labels(take: Take) -> list[str]:
    """Labels of all prompts, in order of appearance."""
    return list(dict.fromkeys(label for lexicon in take.attention.lexicons for label in lexicon.labels))


def _images(maps: Any, key: tuple[int, tuple[str, int], str], take: Take, labels: Sequence[str]) -> Tensor:
    """[image, word, cell] of one site, step and branch; a word that a picture's prompt lacks is NaN."""
    found = maps.get(key)
    if not found:
        raise MissingReadings(
            f"site {key[1][0]} gave no reading at step {key[0]} (branch {key[2]}); it did at others. "
            "Record it alone (sites=...) or switch off what skips it (caches, layer skipping)"
        )
    per_image = max(1, len(found) // len(take.prompts))
    planes = []
    for image in sorted(found):
        own = take.attention.lexicons[min(image // per_image, len(take.prompts) - 1)].labels
        plane = found[image]
        if list(own) != list(labels):
            blank = torch.full((len(labels), plane.shape[-1]), torch.nan, device=plane.device)
            blank[[list(labels).index(label) for label in own]] = plane
            plane = blank
        planes.append(plane)
    return torch.stack(planes)


def guidance_node(take: Take) -> dict[str, xr.Dataset]:
    """Norms, cosines and the spatial map of each step."""
    take.guidance.finish()
    rows = take.guidance.rows
    if not rows:
        return {}
    names = dict.fromkeys(name for row in rows for name in row)
    variables = {}
    for name in names:
        values = torch.stack([row[name].float().cpu() for row in rows if name in row])
        if len(values) == len(rows):
            dims = ("step", "image", "y", "x") if values.ndim == 4 else ("step", "image")
            variables[name] = (dims, values.numpy())
    return {"/guidance": xr.Dataset(variables, coords=_steps(take))}


def latent_node(take: Take) -> dict[str, xr.Dataset]:
    """Latents before each step and after the last, and the predicted clean latents."""
    record = take.guidance
    if not record.samples or take.final is None or record.samples[0].ndim != 4:
        return {}
    latents = torch.stack([*record.samples, take.final.half()]).cpu().numpy()
    predicted = torch.stack(record.predicted).cpu().numpy()
    variables = {
        "latents": (("time", "image", "channel", "y", "x"), latents),
        "predicted": (("step", "image", "channel", "y", "x"), predicted),
    }
    return {"/latents": xr.Dataset(variables, coords=_steps(take))}


def thumbnail_node(take: Take, pipe: Any) -> dict[str, xr.Dataset]:
    """A small picture of the predicted clean latents at every step."""
    if take.final is None:
        return {}
    small = thumbnails(take.guidance.predicted, take.final, take.pictures, pipe)
    if small is None:
        return {}
    return {"/thumbnails": xr.Dataset({"thumbnails": (("step", "image", "y", "x", "rgb"), small)}, coords=_steps(take))}


def _steps(take: Take) -> dict[str, Any]:
    return {"step": np.arange(take.step), "timestep": ("step", np.array(take.guidance.timesteps[: take.step]))}


def run_of(take: Take, pipe: Any, seconds: float) -> Run:
    """What was asked for and with what."""
    _, module = denoiser(pipe)
    weight = next(module.parameters())
    width, height = take.pictures[0].size if take.pictures else _pixels(take, pipe)
    scale = getattr(pipe, "guidance_scale", None)
    return Run(
        prompts=take.encoded.prompts,
        negative_prompts=take.encoded.negatives,
        seed=take.seed,
        steps=take.step,
        guidance_scale=None if scale is None else float(scale),
        height=height,
        width=width,
        model=str(pipe.config.get("_name_or_path") or type(pipe).__name__),
        family=take.family.name,
        pipeline=type(pipe).__name__,
        scheduler={"class": type(pipe.scheduler).__name__, **_plain(pipe.scheduler.config)},
        timesteps=tuple(take.guidance.timesteps),
        dtype=str(weight.dtype).removeprefix("torch."),
        device=str(weight.device),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _pixels(take: Take, pipe: Any) -> tuple[int, int]:
    factor = int(getattr(pipe, "vae_scale_factor", 8))
    shape = take.final.shape if take.final is not None else (1, 1, 0, 0)
    return shape[-1] * factor, shape[-2] * factor


def _plain(config: Any) -> dict[str, Any]:
    """The JSON part of a scheduler's settings."""
    kept = {}
    for name, value in dict(config).items():
        try:
            json.dumps(value)
        except TypeError:
            value = str(value)
        if not name.startswith("_"):
            kept[name] = value
    return kept
