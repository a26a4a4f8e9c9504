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

from probe.attach.attention import AttentionReader
from probe.attach.families import denoiser
from probe.attach.take import Take
from probe.attach.thumbnails import thumbnails
from probe.axes import CHANNEL, FRAME, IMAGE, READING, STEP, X, Y
from probe.errors import MissingReadings
from probe.site import Site
from probe.trace import Run, Trace

PACKAGES = ("diffusion-probe", "torch", "diffusers", "transformers", "numpy", "xarray", "zarr")


def assemble(take: Take, pipe: Any, seconds: float, extra: dict[str, Any] | None = None) -> Trace:
    """A Trace of everything that the take holds."""
    nodes = {**attention_nodes(take), **guidance_node(take), **latent_node(take), **thumbnail_node(take, pipe)}
    return Trace(
        run=run_of(take, pipe, seconds),
        words=take.prompts[0].words if take.prompts else (),
        tokens=take.prompts[0].tokens if take.prompts else (),
        sites=take.attention.sites(),
        tree=xr.DataTree.from_dict(nodes),
        pictures=tuple(take.pictures),
        extra=extra or {},
    )


def attention_nodes(take: Take) -> dict[str, xr.Dataset]:
    """One dataset a grid: attention (site, step, branch, image, word, y, x), with frames before y for films."""
    places, labels = take.attention.readings(), _labels(take)
    shapes = dict.fromkeys((site.frames, *site.grid) for site in places.values()) if labels else {}
    return {
        "/attention/" + "x".join(str(side) for side in (shape[1:] if shape[0] == 1 else shape)): _grid_node(
            take, {k: s for k, s in places.items() if (s.frames, *s.grid) == shape}, labels
        )
        for shape in shapes
    }


def _grid_node(take: Take, places: dict[tuple[str, int], Site], labels: Sequence[str]) -> xr.Dataset:
    maps = take.attention.maps
    branches = [b for b in take.attention.branches if any(branch == b for _, _, branch in maps)]
    images = sorted({image for found in maps.values() for image in found})
    site_rows = []
    for key in places:
        step_rows = []
        for step in range(take.step):
            rows = [_planes(take, (step, key, branch), images, labels) for branch in branches]
            step_rows.append(torch.stack(rows))
        site_rows.append(torch.stack(step_rows))
    sites = list(places.values())
    values = torch.stack(site_rows).float().cpu().numpy()  # [site, step, branch, image, word, cell]
    film = sites[0].frames > 1
    values = values.reshape(*values.shape[:-1], *((sites[0].frames,) if film else ()), *sites[0].grid)
    coords = {
        "site": [site.path for site in sites],
        "step": np.arange(take.step),
        "branch": branches,
        "word": list(labels),
        "timestep": ("step", np.array(take.guidance.timesteps[: take.step])),
    }
    axes = (*READING[:-2], FRAME, *READING[-2:]) if film else READING
    return xr.Dataset({"attention": (axes, values)}, coords=coords)


def _labels(take: Take) -> list[str]:
    """Labels of all prompts of the wanted branches, in order of appearance."""
    reader = take.attention
    wanted = [lexicon for (branch, _), lexicon in reader.lexicons.items() if branch in reader.branches]
    return list(dict.fromkeys(label for lexicon in wanted for label in lexicon.labels))


def _planes(take: Take, key: tuple[int, tuple[str, int], str], images: Sequence[int], labels: Sequence[str]) -> Tensor:
    """[image, word, cell] of one site, step and branch; NaN for words that a prompt lacks and branches that rested."""
    reader, (step, place, branch) = take.attention, key
    found = reader.maps.get(key, {})
    known = branch in {whose[0] for whose in reader.lexicons}
    if not found and known and (step, place[0].partition(".")[0], branch) in reader.ran:
        raise MissingReadings(
            f"site {place[0]} gave no reading at step {step} (branch {branch}); it did at others. "
            "Record it alone (sites=...) or switch off what skips it (caches, layer skipping)"
        )
    site = reader.readings()[place]
    blank = torch.full((len(labels), site.frames * site.grid[0] * site.grid[1]), torch.nan)
    return torch.stack([_plane(reader, branch, found.get(image), labels, blank) for image in images])


def _plane(
    reader: AttentionReader, branch: str, found: tuple[int, Tensor] | None, labels: Sequence[str], blank: Tensor
) -> Tensor:
    """[word, cell] of one picture, on the host."""
    if found is None:
        return blank
    prompt, plane = found
    own = reader.lexicons[branch, prompt].labels
    if list(own) == list(labels):
        return plane.cpu()
    whole = blank.clone()
    whole[[labels.index(label) for label in own]] = plane.to(blank)
    return whole


def guidance_node(take: Take) -> dict[str, xr.Dataset]:
    """Norms, cosines and the spatial map of each step."""
    take.guidance.finish()
    rows = take.guidance.rows
    if not rows:
        return {}
    names = dict.fromkeys(name for row in rows for name in row)
    variables = {}
    for name in names:
        shape = next(row[name].shape for row in rows if name in row)
        nothing = torch.full(shape, torch.nan)  # where a branch rested, there is no difference
        values = torch.stack([row[name].float().cpu() if name in row else nothing for row in rows])
        dims = {2: (STEP, IMAGE), 4: (STEP, IMAGE, Y, X), 5: (STEP, IMAGE, FRAME, Y, X)}[values.ndim]
        variables[name] = (dims, values.numpy())
    return {"/guidance": xr.Dataset(variables, coords=_steps(take))}


def latent_node(take: Take) -> dict[str, xr.Dataset]:
    """Latents before each step and after the last, and the predicted clean latents."""
    record = take.guidance
    if not record.samples or take.final is None:
        return {}
    latents = torch.stack([*record.samples, take.final.half()]).cpu().numpy()
    predicted = torch.stack(record.predicted).cpu().numpy()
    axes = (IMAGE, CHANNEL, *((FRAME,) if latents.ndim == 6 else ()), Y, X)
    variables = {"latents": (("time", *axes), latents), "predicted": ((STEP, *axes), predicted)}
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
        prompts=take.encoded.prompts or ("",),
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
