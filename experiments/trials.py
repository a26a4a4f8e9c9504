"""What one picture says of maps: whether they lie on their subjects, whether their words cause them, and whether they
would look the same without the model. Each yields rows of single numbers, which `which_map_is_true` collects."""

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from PIL import Image

import probe
from experiments.menagerie_pictures import GUIDANCE, SEMANTIC
from probe.errors import BadInput, NotRecorded
from probe.explain import METHODS, Method, faithfulness, needs
from probe.explain.edges import to_edges
from probe.generator.judge import Judge
from probe.generator.world import vocabulary as v
from probe.heatmap import Heatmap
from probe.trace import Trace

SIDE = 32  # of the maps that are kept for looking at
COMPLETE = "completeness"
GLIMPSES = 2  # noise levels from which a rendered scene is seen again
TRUTH = "leave_one_out"
SLOPE = "input_x_gradient"
COSTLY = ("shapley", "gradients", "gradient x input")  # tens of passes a word, on fewer pictures and at fewer looks
FEWER: Mapping[str, Mapping[str, Any]] = {"Gradients": {"samples": 4, "at_once": 4, "checkpoints": False}}
Explain = Callable[[Trace, str], Heatmap]


@dataclass(frozen=True)
class Row:
    """One number. `curve` is the overlap at each level, `map` the map at SIDE x SIDE, `mask` its bits; else empty."""

    picture: int
    source: str
    method: str
    word: str
    role: str
    kind: str
    measure: str
    value: float
    curve: tuple[float, ...] = ()
    map: bytes = b""
    mask: bytes = b""


@dataclass(frozen=True)
class Known:
    """What a word is about: a noun or a colour, of which class, and which pixels [y, x]."""

    role: str
    kind: str
    mask: np.ndarray


@dataclass(frozen=True)
class Case:
    """One picture whose masks are known, by label of word."""

    number: int
    source: str
    trace: Trace
    known: Mapping[str, Known]
    maps: dict[tuple[str, str], Heatmap | None] = field(default_factory=dict)  # that were asked for already

    def map(self, bench: "Bench", name: str, word: str) -> Heatmap | None:
        """The map of a method, made once; None where it has none of this word, or does not compete here."""
        if (name, word) not in self.maps:
            self.maps[name, word] = maybe(bench.methods.get(name), self.trace, word)
        return self.maps[name, word]


@dataclass(frozen=True)
class Bench:
    """What is measured, by whom, how."""

    pipe: Any
    judge: Judge
    steps: int
    looks: int  # steps at which what takes further passes is found out
    methods: Mapping[str, Explain]

    def record(self, prompt: str, seed: int, pipe: Any = None) -> Trace:
        """A generation with all that the methods need."""
        with probe.record(pipe or self.pipe, **asked(self.methods, self.steps, self.looks)) as recording:
            self.paint(prompt, seed, pipe)
        return recording.trace

    def paint(self, prompt: str, seed: int, pipe: Any = None) -> Image.Image:
        """A picture."""
        rng = torch.Generator().manual_seed(seed)
        options = {"num_inference_steps": self.steps, "guidance_scale": GUIDANCE, "generator": rng}
        return (pipe or self.pipe)(prompt, **options).images[0]

    def glimpse(self, picture: Image.Image, prompt: str, seed: int) -> np.ndarray:
        """[y, x, rgb of each noise level] what the prompt makes of the noised picture, always under the same noise."""
        options = {"steps": GLIMPSES, "seed": seed, "guidance_scale": GUIDANCE, "words": []}
        trace = probe.record_image(self.pipe, picture, prompt, **options)
        seen = probe.decode_thumbnails(trace, self.pipe, side=max(picture.size)).node("thumbnails")["thumbnails"]
        return np.concatenate(list(seen.isel(image=0).values.astype(float)), axis=-1)


def methods(names: Sequence[str] | None = None) -> dict[str, Explain]:
    """Every explainer, and what else there is: attention-map-diffusers keeps the last step by default, most papers
    take the mean at 16 x 16, gradient x input is the plainest attribution; and what edges alone do for a map."""
    found: dict[str, Explain] = {each.name: of_prompt(each) if each.whole else each.explain for each in METHODS}
    found |= {"attention, last step": partial(probe.attention, steps=-1), "attention, 16 x 16": coarse}
    found |= {"attention, to edges": edged, "gradient x input": slope}
    return {name: explain for name, explain in found.items() if not names or name in names}


def of_prompt(method: Method) -> Explain:
    """One map for all words: what a method of words has to beat."""
    return lambda trace, word: method.explain(trace, None)


def coarse(trace: Trace, word: str) -> Heatmap:
    """The mean over the cross sites of 16 x 16 cells."""
    return probe.attention(trace, word, sites=probe.select(trace.sites, kind="cross", grid=SEMANTIC))


def edged(trace: Trace, word: str) -> Heatmap:
    """The mean, brought to the edges of the picture as segmentation is."""
    found = probe.attention(trace, word)
    return replace(found, values=xr.DataArray(to_edges(found.values.values, trace.shown(0)[0]), dims=("y", "x")))


def slope(trace: Trace, word: str) -> Heatmap:
    """Gradient x input on the latents."""
    return probe.gradients(trace, word, label=SLOPE)


def asked(names: Mapping[str, Explain], steps: int, looks: int) -> dict[str, Any]:
    """What `probe.record` is asked for: relations, and, at some looks spread over so many steps, what takes passes.

    What takes tens of passes a word is asked at half of the looks, and integrated gradients take 4 points of the path.
    """
    every = spread(steps, looks)
    few = tuple(every[i] for i in spread(len(every), (len(every) + 1) // 2))
    inquiries, relations = needs(names)
    found = []
    for name in inquiries:
        at = few if name.casefold() in COSTLY else every
        found.append(getattr(probe, name)(steps=at, **FEWER.get(name, {})))
    if slope in names.values():
        found.append(probe.Gradients(method=SLOPE, label=SLOPE, steps=few, checkpoints=False))
    return {"explain": found, "relations": relations}


def spread(count: int, looks: int) -> tuple[int, ...]:
    """So many of 0 .. count - 1, in the middles of equal parts."""
    return tuple(sorted({int((i + 0.5) * count / looks) for i in range(looks)}))


def role(word: str) -> str:
    """Whether a word names a colour or a thing."""
    return "colour" if word in v.COLOURS else "noun"


def localised(case: Case, bench: Bench) -> Iterator[Row]:
    """Each map against its mask, and against what leaving the word out changes."""
    for name, (word, known) in itertools.product(bench.methods, case.known.items()):
        found, truth = case.map(bench, name, word), case.map(bench, TRUTH, word)
        if found is None:
            continue
        row = partial(Row, case.number, case.source, name, word, known.role, known.kind)
        shown = np.rint(255 * found.resize(SIDE, SIDE).normalised().values.values).astype(np.uint8)
        curve = faithfulness.overlaps(found, known.mask)
        yield row("overlap", float("nan"), tuple(curve), shown.tobytes(), np.packbits(known.mask).tobytes())
        yield row("precision", faithfulness.precision(found, known.mask))
        yield row("pointing", float(faithfulness.points(found, known.mask)))
        if truth is not None and name != TRUTH:
            yield row("agreement with leave-one-out", faithfulness.agreement(found, truth))


def maybe(explain: Explain | None, trace: Trace, word: str) -> Heatmap | None:
    """The map, or None where this method has none of this word."""
    try:
        return None if explain is None else explain(trace, word)
    except (BadInput, NotRecorded):
        return None


def caused(case: Case, bench: Bench) -> Iterator[Row]:
    """Words taken away in the order in which a map ranks them for a subject, and the change of the subject's pixels.

    A generated picture is drawn again from its seed; a rendered scene is noised again from its own, and seen again.
    """
    words = tuple(word.label for word in case.trace.words if word.content)
    if len(words) < 2:
        return

    @cache
    def without(gone: frozenset[str]) -> np.ndarray:
        prompt = less(case.trace, gone)
        if case.source == "scene":
            return bench.glimpse(case.trace.pictures[0], prompt, case.number)
        return np.asarray(bench.paint(prompt, case.number), dtype=float)

    for name, (word, known) in itertools.product(bench.methods, case.known.items()):
        maps = {each: case.map(bench, name, each) for each in words}
        found = {each: heatmap for each, heatmap in maps.items() if heatmap is not None}
        if known.role == "noun" and len(found) == len(words):
            order = ranked(found, known.mask)
            row = partial(Row, case.number, case.source, name, word, known.role, known.kind)
            yield from (row(measure, value) for measure, value in curves(order, known.mask, without).items())


def ranked(maps: Mapping[str, Heatmap], mask: np.ndarray) -> list[str]:
    """Words by the mean of their map inside of a mask, largest first."""
    inside = {word: float(heatmap.resize(*mask.shape).values.values[mask].mean()) for word, heatmap in maps.items()}
    return sorted(inside, key=lambda word: -inside[word])


def curves(order: Sequence[str], mask: np.ndarray, without: Callable[[frozenset[str]], np.ndarray]) -> dict[str, float]:
    """Areas under the change of the mask's pixels, as a share of the change without any word; {} where that is none.

    Of three words or more also the rank correlation of their order with the change when each alone is left out.
    """
    whole = without(frozenset())

    def changed(gone: Sequence[str], where: np.ndarray = mask) -> float:
        return float(np.abs(without(frozenset(gone)) - whole)[where].mean())

    most, rest, ends = changed(order), max(changed(order, ~mask), 1e-9), range(len(order) + 1)
    if most == 0:
        return {}
    first, alone = (changed(order[:1]), changed(order[:1], ~mask)), [changed([word]) for word in order]
    ranks = {"order of words": faithfulness.rank_correlation(alone, range(len(order), 0, -1))} if len(order) > 2 else {}
    return ranks | {
        "deletion": faithfulness.area([changed(order[:k]) / most for k in ends]),
        "deletion outside": faithfulness.area([changed(order[:k], ~mask) / rest for k in ends]),
        "least first": faithfulness.area([changed(order[len(order) - k :]) / most for k in ends]),
        "insertion": faithfulness.area([1 - changed(order[k:]) / most for k in ends]),
        "change inside": first[0] / max(sum(first), 1e-9),
    }


def less(trace: Trace, gone: frozenset[str]) -> str:
    """The prompt without some words."""
    text = trace.prompt
    for word in sorted(trace.words, key=lambda word: -word.start):
        text = text[: word.start] + text[word.end :] if word.label in gone else text
    return re.sub(r"\s+", " ", text).strip()


def sane(case: Case, bench: Bench, prompt: str) -> Iterator[Row]:
    """Agreement of each map with that of shuffled weights, and with that of another prompt's noun; attention's sum."""
    random = bench.record(case.trace.prompt, case.number, shuffled(bench.pipe))
    other = bench.record(prompt, case.number)
    theirs = next(word.label for word in other.words if word.content and role(word.text) == "noun")
    for (name, explain), (word, known) in itertools.product(bench.methods.items(), case.known.items()):
        row = partial(Row, case.number, case.source, name, word, known.role, known.kind)
        found, against = case.map(bench, name, word), {"shuffled weights": maybe(explain, random, word)}
        against |= {"another prompt": maybe(explain, other, theirs)} if known.role == "noun" else {}
        for measure, map_ in against.items():
            if found is not None and map_ is not None:
                yield row(measure, abs(faithfulness.agreement(found, map_)))
    yield Row(case.number, case.source, "attention", "*", "all", "all", "sums to one", total(case, bench))


def complete(case: Case) -> Iterator[Row]:
    """How far from what they must sum to the attributions are that promise a sum, as a share of it."""
    held = {path.strip("/") for path in case.trace.tree.groups}
    if "shapley" in held:
        sums = case.trace.node("shapley")["share"].sum("word")
        yield Row(case.number, case.source, "shapley", "*", "all", "all", COMPLETE, float(abs(sums - 1).max()))
    if "gradients/latents" in held and case.trace.node("gradients/latents").attrs["complete"]:
        node = case.trace.node("gradients/latents")
        for word, known in case.known.items():
            own = node.sel(word=word)
            part = float(abs(own["delta"]).sum() / abs(own["value"] - own["baseline"]).sum())
            yield Row(case.number, case.source, "gradients", word, known.role, known.kind, COMPLETE, part)


def total(case: Case, bench: Bench) -> float:
    """The largest distance from 1 of attention, summed over all words and special tokens, in a drawing of few steps."""
    with probe.record(bench.pipe, ["*"]) as recording:
        replace(bench, steps=bench.looks).paint(case.trace.prompt, case.number)
    sums = [node["attention"].sum("word") for node in recording.trace.attention_nodes()]
    return max(float(abs(each - 1).max()) for each in sums)


def shuffled(pipe: Any) -> Any:
    """The same pipeline around a denoiser whose weights are shuffled, each tensor within itself."""
    unet, rng = copy.deepcopy(pipe.unet), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in unet.parameters():
            order = torch.randperm(weight.numel(), generator=rng).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    twin = type(pipe)(**pipe.components | {"unet": unet}, requires_safety_checker=False)
    twin.set_progress_bar_config(disable=True)
    return twin
