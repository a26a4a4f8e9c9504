"""Two steps of a model on its own weights, without and with a recording: what holds for it, and what does not."""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from probe.attach.model.attention import named_attention
from probe.attach.model.families import denoisers, family
from probe.attach.record import record
from probe.attach.recording import Recording
from probe.attach.text.lexicon import EVERY, IMAGE, PADDING
from probe.axes import SPECIAL
from probe.errors import BadInput, ProbeError
from probe.trace import Trace

PROMPT, STEPS, FRAMES = "a cat and a red balloon", 2, 9
SLACK = {"float32": 1e-4}  # how far all words and the rest together may be from one; elsewhere ROUGH
ROUGH = 2e-2
WHY = 300  # characters of a pipeline's own error
TOLERANCE = 0.1  # of the estimate
REFUSALS = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, RuntimeError)  # of pipelines
PICTURES = ("image", "control_image")
BEGINS = ("strength", "mask_image", "image_guidance_scale")  # arguments of pipelines that begin with a picture


@dataclass(frozen=True)
class Trial:
    """What two steps of a model showed."""

    model: str
    pipeline: str
    family: str
    inferred: bool  # the layout is not in the table: it was inferred from modules and shapes
    reads: bool  # whether its denoiser reads any text
    modules: int  # attention modules of its denoisers
    sites: int  # of these, those in which cells attend to text, each with readings at every step that it ran
    steps: int
    branches: tuple[str, ...]
    guidance: str
    words: tuple[str, ...]
    lost: tuple[str, ...]  # words without a reading
    excess: float  # how far all words and the rest together are from one, at most, in any cell
    dtype: str
    identical: bool  # the picture with a recording equals the picture without, to the bit
    returned: bool  # hooks, processors, methods and flags are as they were
    estimate: int  # bytes, before the first pass or after it
    held: int  # bytes of the trace
    seconds: tuple[float, float]  # without, with

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not hold."""
        off = abs(self.estimate - self.held) / max(self.held, 1)
        checks = {
            "no attention module reads the text": self.reads and not self.sites,
            f"no readings of {', '.join(self.lost)}": bool(self.lost),
            f"the words of a cell add up to 1 only within {self.excess:.1e}": self.excess > self.slack,
            "recording changed the picture": not self.identical,
            "recording left hooks, processors or flags behind": not self.returned,
            f"the estimate of {self.estimate:,} bytes is {off:.0%} off": off > TOLERANCE,
        }
        return tuple(said for said, wrong in checks.items() if wrong)

    @property
    def slack(self) -> float:
        """How far the words may be from one in this precision."""
        return SLACK.get(self.dtype, ROUGH)

    def __str__(self) -> str:
        plain, recorded = self.seconds
        told = "inferred from its modules: it is not in the table" if self.inferred else self.family
        rows = {
            "sites": f"{self.sites} of {self.modules} attention modules read the text, at each of {self.steps} steps",
            "branches": f"{', '.join(self.branches) or 'none'}; guidance: {self.guidance}",
            "words": f"{', '.join(self.words)}; together 1 within {self.excess:.0e}",
            "picture": "identical to the bit" if self.identical else "CHANGED by the recording",
            "returned": "hooks, processors, methods, flags" if self.returned else "NOT all",
            "bytes": f"{self.estimate:,} estimated, {self.held:,} held",
            "cost": f"{plain:.2f} s without (and warming up), {recorded:.2f} s with",
        }
        head = f"model       {self.model}, {self.pipeline} ({told}), {self.dtype}"
        return "\n".join([head, *(f"  {name:<10}{said}" for name, said in rows.items())])


@dataclass
class Bench:
    """A pipeline under trial, with the arguments of its call."""

    pipe: Any
    given: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """Pictures [image, y, x, rgb] or films, from the noise of seed 0. Raises BadInput if the pipeline cannot."""
        if "generator" in self.given:
            raise BadInput(
                "generator: both runs of a trial are drawn from seed 0, so that they can be equal; leave it out"
            )
        call = arguments(self.pipe) | dict(self.given)
        try:
            made = self.pipe(**call, generator=torch.Generator("cpu").manual_seed(0))[0]
        except ProbeError:
            raise
        except REFUSALS as problem:
            why = shorten(f"{type(problem).__name__}: {problem}", WHY, placeholder=" ...")
            raise BadInput(
                f"{type(self.pipe).__name__} cannot be called with {', '.join(call)}: {why}. Give what it needs, "
                "by name: probe.doctor(pipe, image=...)"
            ) from problem
        return np.asarray(made.float().cpu() if isinstance(made, torch.Tensor) else made)


def attempt(pipe: Any, given: Mapping[str, Any]) -> Trial:
    """Two steps twice from the same noise, plain and recorded. Raises what `probe.record` raises."""
    bench, layout = Bench(pipe, given), family(pipe)
    plain, without = timed(bench.run)
    before = marks(pipe)
    rest = (*SPECIAL, IMAGE) if layout.joint else ()  # in cross-attention, EVERY means these as well
    words = None if layout.text == "none" else (EVERY, *rest)
    with record(pipe, words, branches="*") as recording:
        recorded, during = timed(bench.run)
    trace = recording.trace
    guidance = trace.tree["guidance"].attrs if "guidance" in trace.tree.children else {}
    return Trial(
        model=trace.run.model,
        pipeline=type(pipe).__name__,
        family=trace.run.family,
        inferred=layout.inferred,
        reads=layout.text != "none",
        modules=len(named_attention(denoisers(pipe))),
        sites=len({str(path) for node in trace.attention_nodes() for path in node["site"].values}),
        steps=len(trace.run.timesteps),
        branches=tuple(guidance.get("branches", ())) or tuple(trace.along("branch")),
        guidance=str(guidance.get("method", "not recorded")),
        words=tuple(word.label for word in trace.words),
        lost=tuple(word.label for word in trace.words if not has_readings(trace, word.label)),
        excess=excess(trace),
        dtype=trace.run.dtype,
        identical=plain.shape == recorded.shape and plain.tobytes() == recorded.tobytes(),
        returned=marks(pipe) == before,
        estimate=estimated(recording),
        held=trace.nbytes,
        seconds=(without, during),
    )


def arguments(pipe: Any) -> dict[str, Any]:
    """What any pipeline is called with, as far as it takes it; pictures for those that begin with some."""
    takes = inspect.signature(pipe.__call__).parameters
    call: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": STEPS, "output_type": "np", "num_frames": FRAMES}
    begins = any(name in takes for name in BEGINS) or "controlnet" in getattr(pipe, "components", {})
    if begins or any(takes[name].default is inspect.Parameter.empty for name in PICTURES if name in takes):
        call |= {"strength": 1.0, "mask_image": mask(pipe), **dict.fromkeys(PICTURES, picture(pipe))}
    return {name: value for name, value in call.items() if name in takes}


def picture(pipe: Any) -> Image.Image:
    """Colours at random, as large as the model's own pictures."""
    side = own_side(pipe)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def mask(pipe: Any) -> Image.Image:
    """White on the right half, which is to be painted."""
    side = own_side(pipe)
    half = np.arange(side) >= side // 2
    return Image.fromarray(np.broadcast_to(np.uint8(255) * half, (side, side)).astype(np.uint8))


def own_side(pipe: Any) -> int:
    """Pixels along a side of the model's own pictures; 512 where it does not say."""
    sizes = [getattr(module.config, "sample_size", None) for module in denoisers(pipe).values()]
    return next((size * getattr(pipe, "vae_scale_factor", 8) for size in sizes if isinstance(size, int)), 512)


def has_readings(trace: Trace, label: str) -> bool:
    """Whether a word has a reading at every site, at some step."""
    nodes = trace.attention_nodes()
    found = [node["attention"].sel(word=label, branch="cond") for node in nodes if label in node["word"].values]
    sites = [array.isel(site=i) for array in found for i in range(array.sizes["site"])]
    return len(found) == len(nodes) and all(bool(np.isfinite(site).any()) for site in sites)


def excess(trace: Trace) -> float:
    """How far a cell's attention to all words and the rest is from 1, at most; above 1 only where no rest is read."""
    largest = 0.0
    for node in trace.attention_nodes():
        array = node["attention"]
        total = array.sum("word", dtype=np.float64).where(array.notnull().any("word"))
        whole = bool({PADDING, IMAGE} & set(map(str, node["word"].values)))
        apart = np.abs(total - 1) if whole else (total - 1).clip(min=0)
        largest = max(largest, float(apart.max()))
    return largest


def estimated(recording: Recording) -> int:
    return recording.estimate.total if recording.estimate is not None else 0


def marks(pipe: Any) -> list[Any]:
    """What a recording borrows: hooks, processors, flags and attributes, to compare before and after."""
    parts = [part for part in getattr(pipe, "components", {}).values() if isinstance(part, nn.Module)]
    found: list[Any] = [sorted(vars(pipe)), sorted(vars(pipe.scheduler))]
    for module in (module for part in parts for module in part.modules()):
        own = vars(module)
        hooks = [tuple(own[name]) for name in own if name.endswith("_hooks")]
        frozen = [weight.requires_grad for weight in module.parameters(recurse=False)]
        found.append((hooks, sorted(own), id(own.get("processor")), module.training, frozen))
    return found


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started
