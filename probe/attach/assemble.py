"""From what a take has seen to a frozen Trace: the one move from the model's device to the host."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
import xarray as xr

from probe.attach.aside import Asides
from probe.attach.kept.guiders import guiders_of, method, scale_of
from probe.attach.kept.planes import attention_nodes, labels_of
from probe.attach.kept.related import nodes as relation_sets
from probe.attach.kept.thumbnails import thumbnails
from probe.attach.model.families import denoiser
from probe.attach.model.name import model_of, revision_of
from probe.attach.precision import own_precision
from probe.attach.take import Take
from probe.axes import CHANNEL, FRAME, IMAGE, STEP, X, Y
from probe.site import Site
from probe.trace import Run, Trace
from probe.words import Token, Word

Part = TypeVar("Part", Word, Token)
PACKAGES = ("diffusion-probe", "torch", "diffusers", "transformers", "numpy", "xarray", "zarr")


@own_precision()
def assemble(take: Take, asides: Asides, pipe: Any, seconds: float) -> Trace:
    """A Trace of everything that the take holds, and of what ran aside."""
    take.attention.read_waiting()
    nodes = {**attention_nodes(take), **guidance_node(take, pipe), **latent_node(take), **thumbnail_node(take)}
    nodes |= dict(asides.nodes()) | relation_nodes(take) | scheduler_node(take) | module_nodes(take)
    nodes |= take.depths.nodes(take.encoded)
    note = {"note": take.family.note} if take.family.note else {}
    said = take.others if any(take.encoded.negatives) else ()
    negative = [(i, prompt) for i, prompt in enumerate(said) if prompt is not None]
    return Trace(
        run=run_of(take, pipe, seconds),
        words=tuple(_of(word, i) for i, prompt in enumerate(take.prompts) for word in prompt.words),
        tokens=tuple(_of(token, i) for i, prompt in enumerate(take.prompts) for token in prompt.tokens),
        sites=sites_of(take),
        tree=xr.DataTree.from_dict(nodes),
        pictures=tuple(take.pictures),
        extra=asides.extra() | note | fallen(take) | adapters(pipe) | fused(pipe),
        negative_words=tuple(_of(word, i) for i, prompt in negative for word in prompt.words),
        negative_tokens=tuple(_of(token, i) for i, prompt in negative for token in prompt.tokens),
    )


def _of(part: Part, prompt: int) -> Part:
    """A word or token of this prompt."""
    return part.model_copy(update={"prompt": prompt}) if prompt else part


def fallen(take: Take) -> dict[str, list[dict[str, list[str]]]]:
    """By prompt and encoder, the labels of all words that the encoder reads only in part, or not at all."""
    lost = [{encoder: list(words) for encoder, words in each.fallen.items() if words} for each in take.prompts]
    return {"fallen": lost} if any(lost) else {}


def sites_of(take: Take) -> tuple[Site, ...]:
    """The sites with words, and those of other relations."""
    related = (site for site in take.attention.relations.sites.values() if site is not None)
    return tuple(dict.fromkeys((*take.attention.sites(), *related)))


def relation_nodes(take: Take) -> dict[str, xr.Dataset]:
    """Who attends to whom, beside cells to words."""
    reader = take.attention
    times = take.guidance.timesteps[: take.step]
    return dict(relation_sets(reader.relations, reader.kept, labels_of(take), times))


def module_nodes(take: Take) -> dict[str, xr.Dataset]:
    """Outputs of the chosen modules."""
    reader = take.attention
    return take.outputs.nodes(reader.kept, reader.ran, take.guidance.timesteps)


def scheduler_node(take: Take) -> dict[str, xr.Dataset]:
    """Noise levels, what the scheduler was given, and how far it went."""
    return {"/scheduler": _node(take, take.scheduling.variables())} if take.step else {}


def guidance_node(take: Take, pipe: Any) -> dict[str, xr.Dataset]:
    """Norms, cosines and the spatial map of each step; its attributes say what guided."""
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
    most = max(take.guidance.branches, key=len)
    ran = {branch for _, _, branch in take.attention.ran}
    guiders = take.guidance.guiders or [type(guider).__name__ for guider in guiders_of(pipe)[:1]]
    said = method(guiders, len(most), len(ran), told=take.guidance.told)
    attributes = {"method": said, "branches": list(most) or ["cond"]}
    return {"/guidance": _node(take, variables).assign_attrs(attributes)}


def latent_node(take: Take) -> dict[str, xr.Dataset]:
    """Latents before each step and after the last, and the predicted clean latents, of each branch too."""
    record = take.guidance
    if not record.samples or take.final is None:
        return {}
    latents = torch.stack([*record.samples, take.final.half()]).cpu().numpy()
    predicted = torch.stack(record.predicted).cpu().numpy()
    axes = (IMAGE, CHANNEL, *((FRAME,) if latents.ndim == 6 else ()), Y, X)
    variables = {"latents": (("time", *axes), latents), "predicted": ((STEP, *axes), predicted)}
    for branch in dict.fromkeys(name for row in record.branches for name in row):
        nothing = torch.full_like(record.predicted[0], torch.nan)  # where the branch rested
        values = torch.stack([row.get(branch, nothing) for row in record.branches])
        variables[f"predicted_{branch}"] = ((STEP, *axes), values.cpu().numpy())
    return {"/latents": _node(take, variables)}


def thumbnail_node(take: Take) -> dict[str, xr.Dataset]:
    """A small picture of the predicted clean latents at every step."""
    small = None if take.final is None else thumbnails(take.guidance.predicted, take.final, take.pictures)
    return {} if small is None else {"/thumbnails": _node(take, {"thumbnails": small})}


def _node(take: Take, variables: Mapping[str, Any]) -> xr.Dataset:
    """A node of all steps. Pictures have their numbers in the batch, and times those of the steps that they precede: a
    part that is selected later keeps them.
    """
    times = np.array(take.guidance.timesteps[: take.step])
    node = xr.Dataset(variables, coords={STEP: np.arange(take.step), "timestep": (STEP, times)})
    return node.assign_coords({axis: np.arange(node.sizes[axis]) for axis in ("time", IMAGE) if axis in node.sizes})


def run_of(take: Take, pipe: Any, seconds: float) -> Run:
    """What was asked for and with what."""
    _, module = denoiser(pipe)
    weight = next(module.parameters())
    width, height = take.pictures[0].size if take.pictures else _pixels(take, pipe)
    return Run(
        prompts=take.encoded.prompts or ("",),
        images_per_prompt=max(1, take.pictures_asked // max(1, len(take.encoded.prompts))),
        negative_prompts=take.encoded.negatives,
        seed=take.seed,
        steps=take.step,
        guidance_scale=scale_of(pipe),
        height=height,
        width=width,
        model=model_of(pipe),
        revision=revision_of(pipe),
        family=take.family.name,
        pipeline=type(pipe).__name__,
        scheduler={"class": type(pipe.scheduler).__name__, **_plain(pipe.scheduler.config)},
        timesteps=tuple(take.guidance.timesteps),
        dtype=str(weight.dtype).removeprefix("torch."),
        device=str((weight if take.final is None else take.final).device),  # weights that were moved away are "meta"
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        versions=versions(),
    )


def adapters(pipe: Any) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The adapters that were at work, such as a LoRA, with the scales of their layers, by the part that they change."""
    parts = {name: part for name, part in vars(pipe).items() if isinstance(part, torch.nn.Module)}
    found = {name: scales for name, part in parts.items() if (scales := _scales(part))}
    return {"adapters": found} if found else {}


def fused(pipe: Any) -> dict[str, list[str]]:
    """The LoRAs that were fused into the weights through the pipeline, also those unloaded since: it keeps their names,
    and not their scales. What was fused part by part, or before the weights were saved, leaves no mark.
    """
    names = sorted(map(str, getattr(pipe, "fused_loras", ())))
    return {"fused": names} if names else {}


def _scales(part: torch.nn.Module) -> dict[str, list[float]]:
    """By adapter, the scales that its layers have, without repeats; peft's layers hold them by name."""
    layers: list[Any] = [layer for layer in part.modules() if isinstance(vars(layer).get("scaling"), dict)]
    on = [layer for layer in layers if not layer.disable_adapters]
    names = dict.fromkeys(name for layer in on for name in layer.active_adapters)
    return {name: sorted({float(layer.scaling[name]) for layer in on if name in layer.scaling}) for name in names}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the result; reading them takes 10 ms."""
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
