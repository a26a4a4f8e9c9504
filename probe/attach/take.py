"""A take: what one generation has shown so far. It lives while the pipeline runs and becomes a Trace."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from probe.attach.attention import AttentionReader, Lexicon, Pass, Row
from probe.attach.families import Family
from probe.attach.guidance import GuidanceReader
from probe.errors import RecordingError
from probe.words import Prompt

PADDING = "<padding>"
STATES = ("encoder_hidden_states", "context", "prompt_embeds", "cap_feats")
SAMPLES = ("sample", "hidden_states", "x", "latent_model_input")


@dataclass
class Encoded:
    """What the pipeline's own encoding of the prompts said."""

    prompts: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    cond: Tensor | None = None  # [n, t, c]
    uncond: Tensor | None = None


@dataclass
class Take:
    """One generation, from the encoding of its prompts to its pictures."""

    family: Family
    encoded: Encoded
    prompts: tuple[Prompt, ...]
    attention: AttentionReader
    guidance: GuidanceReader
    step: int = 0
    current: Pass | None = None
    seed: int | None = None
    final: Tensor | None = None
    pictures: list[Image.Image] = field(default_factory=list)
    _rows: dict[tuple[int, tuple[int, ...], str], tuple[Row, ...]] = field(default_factory=dict)

    def begin_pass(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], named: str | None) -> None:
        """The denoiser is about to run: which step, which branch and picture is each row of its batch?"""
        given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        sample, states = _first(given, SAMPLES), _first(given, STATES)
        if sample is None or states is None:
            raise RecordingError(
                f"{type(module).__name__} was called with {sorted(given)}; expected latents named one of {SAMPLES} "
                f"and text states named one of {STATES}: describe the model in probe.attach.families"
            )
        key = (states.data_ptr(), tuple(states.shape), named or "")
        if key not in self._rows:
            self._rows[key] = label_rows(states, self.encoded, named)
        height, width = sample.shape[-2:]
        self.current = Pass(self.step, self._rows[key], height, width, states.shape[1])

    def end_pass(self, output: Any) -> None:
        """The denoiser has run."""
        value = output[0] if isinstance(output, tuple | list) else output.sample
        if self.current is not None:
            for i, row in enumerate(self.current.rows):
                self.guidance.saw(row.branch, row.image, value[i])

    def stepped(self, given: dict[str, Any]) -> None:
        """The scheduler is about to step."""
        self.guidance.stepped(given["model_output"], given["timestep"], given["sample"])

    def ended_step(self, result: Any) -> None:
        """The scheduler has stepped."""
        self.final = (result[0] if isinstance(result, tuple) else result.prev_sample).detach()
        self.step += 1


def label_rows(states: Tensor, encoded: Encoded, named: str | None = None) -> tuple[Row, ...]:
    """The branch, picture and prompt of each row, by comparing its text states with the encoded prompts.

    Content decides, so batched and separate calls, several prompts and several pictures all come out right. Where the
    contents are equal (a negative prompt equal to the prompt), the order of diffusers decides: unconditional first.
    `named` is the branch that the pipeline itself announced for this call.
    """
    sources = _sources(encoded, named)
    if not sources:
        return _by_order(len(states), encoded, named)
    flat = states.detach().flatten(1).float()
    distances = torch.stack([_distance(flat, source) for _, _, source in sources])  # [source, row]
    rows: list[Row] = []
    seen: dict[tuple[str, int], int] = {}
    for i in range(len(states)):
        closest = torch.nonzero(distances[:, i] <= distances[:, i].min()).flatten().tolist()
        branch, prompt, _ = sources[min(closest, key=lambda s: (seen.get(sources[s][:2], 0), s))]
        seen[branch, prompt] = seen.get((branch, prompt), 0) + 1
        rows.append(Row(branch, prompt, prompt))
    return tuple(_number(rows))


def _sources(encoded: Encoded, named: str | None) -> list[tuple[Any, int, Tensor]]:
    other = "negative" if any(encoded.negatives) else "uncond"
    parts = [(other, encoded.uncond), ("cond", encoded.cond)]
    if named is not None:
        wanted = "cond" if named == "cond" else other
        parts = [(branch, value) for branch, value in parts if branch == wanted]
    distinct = max(1, len(encoded.prompts))
    return [
        (branch, prompt, value[prompt * (len(value) // distinct)].detach().flatten().float())
        for branch, value in parts
        if value is not None
        for prompt in range(min(distinct, len(value)))
    ]


def _distance(flat: Tensor, source: Tensor) -> Tensor:
    if flat.shape[1] != source.shape[0]:
        return torch.zeros(len(flat), device=flat.device)
    return (flat - source.to(flat.device)).abs().amax(1)


def _by_order(count: int, encoded: Encoded, named: str | None) -> tuple[Row, ...]:
    prompts = max(1, len(encoded.prompts))
    half = count // 2 if named is None and encoded.uncond is not None and count % 2 == 0 else 0
    rows = [Row("uncond" if i < half else "cond", 0, 0) for i in range(count)]
    each = max(1, (count - half) // prompts)
    return tuple(
        Row(row.branch, (i if i < half else i - half), (i if i < half else i - half) // each)
        for i, row in enumerate(rows)
    )


def _number(rows: Sequence[Row]) -> list[Row]:
    """Number the pictures within each branch, in the order of the batch."""
    counts: dict[str, int] = {}
    numbered = []
    for row in rows:
        image = counts.get(row.branch, 0)
        counts[row.branch] = image + 1
        numbered.append(Row(row.branch, image, row.prompt))
    return numbered


def _first(given: dict[str, Any], names: tuple[str, ...]) -> Tensor | None:
    return next((given[name] for name in names if isinstance(given.get(name), Tensor)), None)


def lexicon(prompt: Prompt, labels: Sequence[str], family: Family, length: int) -> Lexicon:
    """Which columns of the text states make each label, over all encoders of the family."""
    streams = family.streams[:1] if family.shared else family.streams
    starts = {stream.encoder: family.columns(stream.encoder, length) for stream in streams}
    rest = PADDING if family.text == "cross" and PADDING in labels else None
    wanted = {
        label: [] if label == rest else [starts[e] + i for e in starts for i in prompt.columns(label, e)]
        for label in labels
    }
    columns = dict.fromkeys(column for found in wanted.values() for column in found)
    if rest:  # what is left over is exact only when all other columns are read
        real = (t for t in prompt.tokens if t.special != PADDING and t.encoder in starts)
        columns |= dict.fromkeys(starts[t.encoder] + t.index for t in real)
    place = {column: i for i, column in enumerate(columns)}
    members = tuple(tuple(place[column] for column in found) for found in wanted.values())
    return Lexicon(tuple(columns), tuple(wanted), members, rest)
