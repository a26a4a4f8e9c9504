"""Attach to a live pipeline, keep the clock, and always give back.

The pipeline's own loop runs. Step and branch come from its scheduler, its encoded prompts and the cache context it
names, never from counting layer calls. What is put on the pipeline: two hooks per attention module, two on the
denoiser, and stand-ins for four methods of this one object; all of it is taken off again, whatever happens.
"""

import inspect
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image
from torch import Tensor, nn

from probe.attach.alter import Alteration, arguments, check_subjects
from probe.attach.assemble import assemble
from probe.attach.attention import AttentionReader
from probe.attach.borrow import around, lease
from probe.attach.families import Family, denoiser, family
from probe.attach.guidance import GuidanceReader
from probe.attach.take import Encoded, Take, lexicon
from probe.attach.waist import Call, Waist, attention_modules
from probe.axes import SPECIAL
from probe.errors import BadInput, NoMatch, NotRecorded
from probe.intervention import LatentIntervention
from probe.site import matches
from probe.trace import Trace
from probe.words import Prompt, read_prompt


@dataclass(frozen=True)
class Request:
    """What to record. `words` None means the content words (and, in cross-attention, the special tokens)."""

    words: tuple[str, ...] | None = None
    sites: str | Sequence[str] | None = None
    branches: tuple[str, ...] = ("cond",)
    interventions: tuple[LatentIntervention, ...] = ()


class Recording:
    """The live object behind `record`: it holds the pipeline while the block runs, and the traces afterwards."""

    def __init__(self, pipe: Any, request: Request, wait: float = 0.0):
        self._pipe: Any = pipe
        self._request, self._wait = request, wait
        self._stack = ExitStack()
        self._take: Take | None = None
        self._alterations: list[Alteration] = []
        self._latents: Tensor | None = None  # the very tensor that the pipeline holds
        self._named: str | None = None  # the branch that the pipeline announced for the next pass
        self._began = time.monotonic()
        self.traces: list[Trace] = []

    @property
    def trace(self) -> Trace:
        """The trace of the last generation. Raises NotRecorded while it runs, or when nothing was generated."""
        if not self.traces:
            raise NotRecorded(
                "nothing was recorded: call the pipeline inside the block "
                "(`with probe.record(pipe) as recording: pipe(prompt)`), and read `recording.trace` after it"
            )
        return self.traces[-1]

    def __enter__(self) -> Self:
        name, module = denoiser(self._pipe)
        self._family: Family = family(self._pipe)
        self._module: nn.Module = module
        self._prefix = name
        with ExitStack() as stack:
            stack.enter_context(lease(module, self._wait))
            self._attach(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._stack.close()
        finally:
            take, self._take = self._take, None
        if kind is None and take is not None:
            self._finish(take)
        self._pipe = self._module = None  # what is returned holds no model

    def _attach(self, stack: ExitStack) -> None:
        paths = attention_modules(self._module)
        wanted = {path: module for path, module in paths.items() if self._wants(f"{self._prefix}.{path}")}
        if not wanted:
            listed = "\n  ".join(f"{self._prefix}.{path}" for path in paths)
            raise NoMatch(f"sites={self._request.sites!r} matches none of the attention modules:\n  {listed or 'none'}")
        self._waist = Waist(self._read, lambda path: True)
        stack.callback(self._waist.begin_pass)
        for path, module in wanted.items():
            for handle in self._waist.hooks(module, f"{self._prefix}.{path}"):
                stack.callback(handle.remove)
        before = self._module.register_forward_pre_hook(self._begin_pass, with_kwargs=True)
        stack.callback(before.remove)
        stack.callback(self._module.register_forward_hook(self._end_pass).remove)
        self._stand_in(stack)

    def _stand_in(self, stack: ExitStack) -> None:
        """The methods that know what no hook sees: prompts, seed, branch, step and pictures."""
        pipe = self._pipe
        methods = (
            (pipe, "encode_prompt", self._encode),
            (pipe, "prepare_latents", self._prepare),
            (self._module, "cache_context", self._name_branch),
            (pipe.scheduler, "step", self._step),
            (getattr(pipe, "image_processor", None), "postprocess", self._show),
        )
        for owner, name, wrapper in methods:
            if hasattr(owner, name):
                stack.enter_context(around(owner, name, wrapper))

    def _wants(self, path: str) -> bool:
        patterns = self._request.sites
        if patterns is None:
            return True
        return any(matches(path, p) for p in ([patterns] if isinstance(patterns, str) else patterns))

    # What the pipeline does, in the order in which it does it.

    def _encode(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = inspect.signature(original).bind_partial(*args, **kwargs).arguments
        prompts = _texts(given.get("prompt"))
        take = self._begin(prompts, _texts(given.get("negative_prompt")))  # bad words stop it before any work
        result = original(*args, **kwargs)
        self._plan(take)
        tensors = [value for value in result if isinstance(value, Tensor) and value.ndim == 3]
        take.encoded.cond = tensors[0] if tensors else None
        take.encoded.uncond = tensors[1] if len(tensors) > 1 else None
        return result

    def _begin(self, prompts: tuple[str, ...], negatives: tuple[str, ...]) -> Take:
        if self._take is not None and self._take.step:
            self._finish(self._take)
        self._began = time.monotonic()
        read = tuple(self._read_prompt(prompt) for prompt in prompts)
        lexicons = [lexicon(prompt, self._labels(prompt), self._family, self._text_length()) for prompt in read]
        reader = AttentionReader(self._family, lexicons, self._request.branches)
        self._take = Take(self._family, Encoded(prompts, negatives), read, reader, GuidanceReader(self._pipe.scheduler))
        return self._take

    def _read_prompt(self, prompt: str) -> Prompt:
        tokenizers = {s.encoder: getattr(self._pipe, s.tokenizer) for s in self._family.streams}
        lengths = {
            s.encoder: s.length or getattr(self._pipe, s.tokenizer).model_max_length for s in self._family.streams
        }
        return read_prompt(prompt, tokenizers, lengths=lengths)

    def _labels(self, prompt: Prompt) -> tuple[str, ...]:
        if self._request.words is not None:
            return tuple(label if label in SPECIAL else prompt.find(label).label for label in self._request.words)
        content = tuple(word.label for word in prompt.words if word.content) or tuple(w.label for w in prompt.words)
        return content + (SPECIAL if self._family.text == "cross" else ())

    def _text_length(self) -> int:
        lengths = [s.length or getattr(self._pipe, s.tokenizer).model_max_length for s in self._family.streams]
        return lengths[0] if self._family.shared else sum(lengths)

    def _prepare(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = inspect.signature(original).bind_partial(*args, **kwargs).arguments
        generator = given.get("generator")
        first = generator[0] if isinstance(generator, list) else generator
        if self._take is not None and first is not None:
            self._take.seed = first.initial_seed()
        result = original(*args, **kwargs)
        self._latents = result[0] if isinstance(result, tuple | list) else result
        return result

    def _name_branch(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = args[0] if args else kwargs.get("name")
        self._named = name if name in ("cond", "uncond") else None
        return original(*args, **kwargs)

    def _plan(self, take: Take) -> None:
        """Find each intervention's subjects in each prompt before any work is done."""
        self._alterations = [
            Alteration(
                item,
                [_positions(item, prompt, self._family, self._text_length()) for prompt in take.prompts],
                self._pipe.scheduler,
            )
            for item in self._request.interventions
        ]

    def _begin_pass(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._waist.begin_pass()
        take = self._take
        if take is None:
            return None
        take.begin_pass(module, args, kwargs, self._named)
        due = [a for a in self._alterations if a.due(take.step)]
        return self._alter(due, module, arguments(module, args, kwargs)) if due and self._latents is not None else None

    def _alter(self, due: list[Alteration], module: nn.Module, given: dict[str, Any]) -> Any:
        """Let the interventions move the latents; what they run is not part of the record."""
        take = self._take
        assert take is not None and self._latents is not None
        current, take.current = take.current, None
        assert current is not None
        try:
            for alteration in due:
                given = alteration.alter(module, given, current.rows, self._latents, take.step)
        finally:
            take.current = current
            self._waist.begin_pass()
        return (), given

    def _read(self, call: Call, lse: Tensor | None) -> None:
        take = self._take
        if take is not None and take.current is not None:
            take.attention.read(call, lse, take.current)

    def _end_pass(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        take = self._take
        if take is not None and take.current is not None:
            take.attention.check(self._waist.ran, take.current)
            take.end_pass(output)
            take.current = None

    def _step(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._take is not None:
            self._take.stepped(inspect.signature(original).bind_partial(*args, **kwargs).arguments)
        result = original(*args, **kwargs)
        if self._take is not None:
            self._take.ended_step(result)
            self._latents = result[0] if isinstance(result, tuple) else result.prev_sample
        return result

    def _show(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = original(*args, **kwargs)
        if self._take is not None:
            self._take.pictures = _pictures(result)
        return result

    def _finish(self, take: Take) -> None:
        if take.step:
            log = [entry for alteration in self._alterations for entry in alteration.log]
            extra = {"nursing": log} if log else {}
            self.traces.append(assemble(take, self._pipe, time.monotonic() - self._began, extra))
        self._take = None


def record(
    pipe: Any,
    words: Sequence[str] | None = None,
    *,
    sites: str | Sequence[str] | None = None,
    branches: Sequence[str] = ("cond",),
    interventions: Sequence[LatentIntervention] = (),
    wait: float = 0.0,
) -> Recording:
    """Record what a pipeline does inside the block; the picture stays the same to the bit.

    `words`: the words to watch (default: the prompt's content words). `sites`: patterns of module names (default:
    all). `branches`: "cond", "uncond", "negative". `interventions`: what moves the latents (`probe.nurse`).
    `wait`: seconds to wait for another thread's recording.
    Raises NoSuchWord, NoMatch, MissingReadings, AlreadyRecording, UnknownFamily.
    """
    if isinstance(words, str):
        raise BadInput(f"words is one string ({words!r}); give a list of words: words=[{words!r}]")
    for item in interventions:
        check_subjects(item)
    chosen = None if words is None else tuple(words)
    return Recording(pipe, Request(chosen, sites, tuple(branches), tuple(interventions)), wait)


def _positions(
    item: LatentIntervention, prompt: Prompt, family: Family, length: int
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Each subject's positions in the sequence of text states, and the end token's."""
    encoder = family.streams[0].encoder
    start = family.columns(encoder, length)
    positions = {name: tuple(start + i for i in prompt.columns(name, encoder)) for name in item.names}
    return positions, start + prompt.columns("<end>", encoder)[0]


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _pictures(result: Any) -> list[Image.Image]:
    """PIL pictures of a pipeline's output, whatever its type; none for latents."""
    if isinstance(result, list) and result and isinstance(result[0], Image.Image):
        return list(result)
    if isinstance(result, Tensor):
        result = result.detach().float().permute(0, 2, 3, 1).cpu().numpy() if result.ndim == 4 else None
    if isinstance(result, np.ndarray) and result.ndim == 4 and result.shape[-1] == 3:
        return [Image.fromarray((np.clip(row, 0, 1) * 255).round().astype(np.uint8)) for row in result]
    return []
