"""Hand-made traces with known content: every word has one smooth blob, and the picture shows a disc where it sits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from probe.axes import READING, SPECIAL
from probe.site import Site
from probe.trace import Run, Trace
from probe.words import Token, Word

PLACES = ("down_blocks.1", "up_blocks.1")
COLOURS = ((214, 69, 65), (38, 120, 190), (52, 152, 90), (240, 180, 30), (140, 90, 180))
MAGNITUDES = ("cond_norm", "uncond_norm", "difference_norm", "guided_norm")


def make_trace(
    steps: int = 4,
    words: Sequence[str] = ("cat", "balloon"),
    grids: Sequence[tuple[int, int]] = ((16, 16), (8, 8)),
    images: int = 1,
    size: int = 128,
    seed: int = 0,
    branches: Sequence[str] = ("cond",),
) -> Trace:
    """A trace as `probe.record` would make it of "a cat and a balloon", with a blob at `centre(word)` for each word.

    The word axis holds the words and the special tokens; over it, each cell's attention sums to 1.
    """
    rng = np.random.default_rng(seed)
    sites = _sites(grids)
    axes = {"step": np.arange(steps), "branch": list(branches), "image": np.arange(images)}
    nodes = {f"/attention/{h}x{w}": _attention(sites, (h, w), words, axes, rng) for h, w in grids}
    nodes |= {
        "/guidance": _guidance(steps, images, size // 8, rng),
        "/latents": _latents(steps, images, size // 8, rng),
    }
    nodes["/thumbnails"] = _thumbnails(words, steps, images)
    prompt = " and ".join(f"a {word}" for word in words)
    listed = _words(prompt, words)
    tree = xr.DataTree.from_dict(nodes)
    pictures = tuple(Image.fromarray(_picture(words, size, i)) for i in range(images))
    return Trace(_run(prompt, steps, size, seed), listed, _tokens(listed), sites, tree, pictures)


def make_film(frames: int = 3, r: int = 4, steps: int = 4, images: int = 1) -> Trace:
    """A film as a causal autoencoder decodes it, 1 + r (frames - 1) pictures: with each frame of the latents, all that
    is seen and all maps move down by a fourth of the height, and appear again at the top.
    """
    whole = make_trace(steps=steps, images=images)
    nodes = {path: node.to_dataset() for path, node in whole.tree.subtree_with_keys if node.data_vars}
    kept = {path: each for path, each in nodes.items() if path.split("/")[0] in ("attention", "latents")}
    moved = {_film_path(path, frames): _moving(each, frames) for path, each in kept.items()}
    times = [-(-i // r) for i in range(1 + r * (frames - 1))]
    stills = [np.asarray(picture) for picture in whole.pictures]
    pictures = [np.roll(still, i * len(still) // 4, 0) for still in stills for i in times]
    sites = tuple(site.model_copy(update={"frames": frames}) for site in whole.sites)
    shown = tuple(map(Image.fromarray, pictures))
    return replace(whole, sites=sites, tree=xr.DataTree.from_dict(moved), pictures=shown)


def _film_path(path: str, frames: int) -> str:
    return path.replace("attention/", f"attention/{frames}x")


def _moving(node: xr.Dataset, frames: int) -> xr.Dataset:
    """The node with a frame axis before y and x, where it has them."""
    shifts = [i * node.sizes["y"] // 4 for i in range(frames)]
    planes = {name: each for name, each in node.data_vars.items() if "y" in each.dims}
    films = {name: xr.concat([each.roll(y=n) for n in shifts], "frame") for name, each in planes.items()}
    return node.assign({name: each.transpose(..., "frame", "y", "x") for name, each in films.items()})


def make_small_trace() -> Trace:
    """A trace of few arrays, quickly written: one attention node, and the latents."""
    whole = make_trace(steps=2, grids=((8, 8),), size=32)
    nodes = {path: whole.tree[path].to_dataset() for path in ("/attention/8x8", "/latents")}
    return replace(whole, tree=xr.DataTree.from_dict({path: node.drop_vars("image") for path, node in nodes.items()}))


def centre(word: str, words: Sequence[str] = ("cat", "balloon"), image: int = 0) -> tuple[float, float]:
    """Where a word's blob sits, as shares of the height and the width; words stand from left to right."""
    rank = list(words).index(word)
    return 0.3 + 0.4 * ((rank + image) % 2), (rank + 0.5) / len(words)


def _blob(word: str, words: Sequence[str], shape: tuple[int, int], image: int = 0, width: float = 0.15) -> np.ndarray:
    row, column = centre(word, words, image)
    y = (np.arange(shape[0]) + 0.5) / shape[0] - row
    x = (np.arange(shape[1]) + 0.5) / shape[1] - column
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * width**2))


def _sites(grids: Sequence[tuple[int, int]]) -> tuple[Site, ...]:
    paths = [f"{place}.attentions.{i}.transformer_blocks.0.attn2" for place in PLACES for i in range(len(grids))]
    shapes = [*grids, *reversed(grids)]
    rows = enumerate(zip(paths, shapes, strict=True))
    return tuple(Site(path=path, kind="cross", grid=shape, heads=4, order=order) for order, (path, shape) in rows)


def _attention(
    sites: Sequence[Site],
    grid: tuple[int, int],
    words: Sequence[str],
    axes: dict[str, Any],
    rng: np.random.Generator,
) -> xr.Dataset:
    paths = [site.path for site in sites if site.grid == grid]
    coords = {"site": paths, **axes, "word": [*words, *SPECIAL]}
    shape = (*(len(coords[axis]) for axis in READING[:5]), *grid)
    logits = np.log(np.array([0.02] * len(words) + [0.6, 0.25, 0.15]))[:, None, None] + 0.05 * rng.standard_normal(
        shape
    )
    growth = np.linspace(1.0, 4.0, shape[1])[:, None, None]  # [step, 1, 1]: blobs sharpen as the picture clears
    conditional = [i for i, branch in enumerate(coords["branch"]) if branch == "cond"]
    for i, word in enumerate(words):
        for image in range(shape[3]):
            logits[:, :, conditional, image, i] += (growth * _blob(word, words, grid, image))[:, None]
    weights = np.exp(logits)
    values = (weights / weights.sum(axis=4, keepdims=True)).astype(np.float32)
    attrs = {"units": "probability", "long_name": "attention of a cell to a word, mean over heads"}
    arrays = {"attention": (READING, values, attrs), "timestep": ("step", _timesteps(shape[1]))}
    return xr.Dataset(arrays, coords=coords)


def _timesteps(steps: int) -> np.ndarray:
    return np.linspace(981.0, 1.0, steps).astype(np.float32)


def _guidance(steps: int, images: int, cells: int, rng: np.random.Generator) -> xr.Dataset:
    coords = {"step": np.arange(steps), "image": np.arange(images)}
    curve = np.linspace(1.0, 0.4, steps)[:, None] * np.ones(images)
    arrays: dict[str, object] = {
        name: (("step", "image"), ((rank + 1) * curve).astype(np.float32)) for rank, name in enumerate(MAGNITUDES)
    }
    previous = np.where(np.arange(steps)[:, None] == 0, np.nan, 0.9 * np.ones((steps, images)))
    arrays["cosine_previous"] = (("step", "image"), previous.astype(np.float32))
    arrays["cosine_final"] = (("step", "image"), (1.2 - curve).clip(-1, 1).astype(np.float32))
    magnitude = np.abs(rng.standard_normal((steps, images, cells, cells))) * curve[..., None, None]
    arrays["magnitude"] = (("step", "image", "y", "x"), magnitude.astype(np.float32))
    return xr.Dataset(arrays, coords=coords)


def _latents(steps: int, images: int, cells: int, rng: np.random.Generator) -> xr.Dataset:
    noise = rng.standard_normal((steps + 1, images, 4, cells, cells))
    share = np.linspace(1.0, 0.0, steps + 1)[:, None, None, None, None]
    target = rng.standard_normal((1, images, 4, 1, 1)) * np.ones_like(noise)
    dims = ("image", "channel", "y", "x")
    arrays = {
        "latents": (("time", *dims), (share * noise + (1 - share) * target).astype(np.float16)),
        "predicted": (("step", *dims), target[1:].astype(np.float16)),
    }
    return xr.Dataset(
        arrays, coords={"time": np.arange(steps + 1), "step": np.arange(steps), "image": np.arange(images)}
    )


def _thumbnails(words: Sequence[str], steps: int, images: int, side: int = 32) -> xr.Dataset:
    final = np.stack([_picture(words, side, i) for i in range(images)]).astype(np.float32)
    share = np.linspace(0.2, 1.0, steps)[:, None, None, None, None]
    values = (share * final + (1 - share) * 128).astype(np.uint8)
    coords = {"step": np.arange(steps), "image": np.arange(images)}
    return xr.Dataset({"thumbnails": (("step", "image", "y", "x", "rgb"), values)}, coords=coords)


def _picture(words: Sequence[str], size: int, image: int) -> np.ndarray:
    canvas = np.full((size, size, 3), (225, 232, 240), dtype=np.float32)
    for rank, word in enumerate(words):
        disc = _blob(word, words, (size, size), image, width=0.1) > 0.5
        canvas[disc] = COLOURS[rank % len(COLOURS)]
    return canvas.astype(np.uint8)


def _words(prompt: str, words: Sequence[str]) -> tuple[Word, ...]:
    found: list[Word] = []
    seen: dict[str, int] = {}
    position = 0
    for index, text in enumerate(prompt.split(" ")):
        seen[text] = seen.get(text, 0) + 1
        label = text if seen[text] == 1 else f"{text}#{seen[text]}"
        tokens = {"text_encoder": (index + 1,)}  # position 0 is <start>
        end = position + len(text)
        found.append(Word(label=label, text=text, start=position, end=end, tokens=tokens, content=text in words))
        position = end + 1
    return tuple(found)


def _tokens(words: Sequence[Word], length: int = 24) -> tuple[Token, ...]:
    rows = [Token(encoder="text_encoder", index=0, id=0, text="<start>", start=0, end=0, special="<start>")]
    for i, word in enumerate(words, start=1):
        span = {"text": word.text, "start": word.start, "end": word.end, "word": word.label}
        rows.append(Token(encoder="text_encoder", index=i, id=i + 9, **span))
    kinds = ["<end>", *["<padding>"] * length][: max(1, length - len(rows))]
    for i, kind in enumerate(kinds, start=len(rows)):
        rows.append(Token(encoder="text_encoder", index=i, id=1, text=kind, start=0, end=0, special=kind))
    return tuple(rows)


def _run(prompt: str, steps: int, size: int, seed: int) -> Run:
    return Run(
        prompts=(prompt,),
        negative_prompts=("",),
        seed=seed,
        steps=steps,
        guidance_scale=5.0,
        height=size,
        width=size,
        model="menagerie",
        revision="0" * 40,
        family="unet",
        pipeline="StableDiffusionPipeline",
        scheduler={"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": False},
        timesteps=tuple(float(t) for t in _timesteps(steps)),
        created="2026-01-01T00:00:00+00:00",
        seconds=2.0,
        versions={"probe": "0.1.0", "torch": "2.13.0"},
    )
