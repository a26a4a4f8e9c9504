"""What the pipeline told its text encoders, and what each of them really read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.borrow import by_name, here
from probe.attach.kept.guiders import parts_of
from probe.attach.model.compiled import plain
from probe.errors import RecordingError, UnknownFamily

Arguments = dict[str, Any]
Given = dict[str, list[tuple[Tensor, ...]]]  # what each encoder gave for every row: [t, c], its own and of its layers
ENCODERS = ("encode_prompt", "_encode_prompt")  # methods of a pipeline that make states of its texts
RANKS = ("", "_2", "_3", "_4")  # of the texts that a call has for several encoders: prompt, prompt_2, ...


@dataclass(frozen=True, slots=True)
class Heard:
    """One row that a text encoder read. `attended` is None where it was given no mask."""

    encoder: str
    ids: tuple[int, ...]
    attended: tuple[bool, ...] | None


class Listener:
    """Two hooks a text encoder: the ids before it runs, the states after.

    Raises UnknownFamily for a pipeline that encodes no prompt.
    """

    def __init__(self, pipe: Any):
        if pipe is not None:
            check_speaks(pipe)
        self.encoders = {
            name: plain(module)
            for name, module in getattr(pipe, "components", {}).items()
            if "text_encoder" in name and isinstance(module, nn.Module)
        }
        self.rows: list[Heard] = []
        self.states: list[list[Tensor]] = []  # a list of rows a call
        self.given: Given = {}
        self.hears = False  # whether a prompt is being encoded

    def during(self, encode: Any, args: tuple[Any, ...], kwargs: Arguments) -> Any:
        """What encoding a prompt returns."""
        self.hears = True
        try:
            return encode(*args, **kwargs)
        finally:
            self.hears = False

    def hooks(self) -> Iterator[Any]:
        """Put the hooks on; yields their handles."""
        for name, module in self.encoders.items():
            yield module.register_forward_pre_hook(here(self._before(name)), with_kwargs=True)
            yield module.register_forward_hook(here(self._after(name)), with_kwargs=True)

    def take(self) -> tuple[list[Heard], list[list[Tensor]]]:
        """What was heard since the last time."""
        heard, self.rows, self.states, self.given = (self.rows, self.states), [], [], {}
        return heard

    def _before(self, name: str) -> Any:
        def hear(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> None:
            given = by_name(module.forward, args, kwargs)
            ids, mask = given.get("input_ids"), given.get("attention_mask")
            if isinstance(ids, Tensor) and ids.ndim == 2:
                masks: list[tuple[bool, ...] | None] = [None] * len(ids)
                if isinstance(mask, Tensor) and mask.shape == ids.shape:
                    masks = [tuple(row) for row in mask.bool().tolist()]
                self.rows += [Heard(name, tuple(r), seen) for r, seen in zip(ids.tolist(), masks, strict=True)]

        return hear

    def _after(self, name: str) -> Any:
        def hear(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments, output: Any) -> None:
            ids = by_name(module.forward, args, kwargs).get("input_ids")
            layers = [rows_first(value.detach(), ids) for value in _tensors(output) if value.ndim == 3]
            if layers:
                self.states.append(list(layers[0]))
                alike = [x for x in layers if x.shape == layers[0].shape]
                self.given.setdefault(name, []).extend(zip(*alike, strict=True))

        return hear


def rows_first(states: Tensor, ids: Any) -> Tensor:
    """States [b, t, c] of ids [b, t]; ChatGLM's, which Kolors reads, are [t, b, c]."""
    turned = isinstance(ids, Tensor) and states.shape[:2] != ids.shape and states.shape[:2] == ids.T.shape
    return states.transpose(0, 1) if turned else states


def _tensors(output: Any) -> Iterator[Tensor]:
    """All states that a model gave, those of its layers behind its own."""
    named = output.items() if hasattr(output, "items") else enumerate(output)
    values = [value for name, value in named if name != "logits"]  # of its words, and large
    yield from (value for value in values if isinstance(value, Tensor))
    rows = [value for value in values if isinstance(value, tuple | list)]
    yield from (state for row in rows for state in row if isinstance(state, Tensor))


@dataclass
class Encoded:
    """What the pipeline's own encoding of the prompts said, over one or several calls.

    `texts` and `states` are by side: "cond", and "other" for the unconditional or negative branch.
    """

    prompts: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    texts: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=lambda: {"cond": {}, "other": {}})
    states: dict[str, list[Tensor]] = field(default_factory=dict)  # rows [t, c]
    heard: list[Heard] = field(default_factory=list)
    given: Given = field(default_factory=dict)
    told: list[Arguments] = field(default_factory=list)  # what encoded the prompts: the arguments of each call

    @property
    def other(self) -> str:
        """The branch beside cond."""
        return "negative" if any(self.negatives) else "uncond"

    def hear(self, given: Given) -> None:
        """What the encoders gave, beside what they gave before."""
        for encoder, rows in given.items():
            self.given.setdefault(encoder, []).extend(rows)

    def note(self, given: Arguments, groups: Sequence[list[Tensor]], heard: Sequence[Heard]) -> None:
        """Take one call. A second one to the same encoder brings the negative prompt."""
        check_named(given, heard)
        prompts, negatives = texts(given.get("prompt")), texts(given.get("negative_prompt"))
        encoders = tuple(dict.fromkeys(row.encoder for row in heard))
        again = bool(self.prompts) and bool({row.encoder for row in self.heard} & set(encoders))
        self.heard += heard
        if again:
            self.negatives = prompts
            self._side("other", given, "prompt", encoders)
            self.states |= dict(zip(("other",), groups, strict=False))
            return
        self.told += [given] if heard else []
        self.prompts, self.negatives = self.prompts or prompts, self.negatives or negatives
        self._side("cond", given, "prompt", encoders)
        self._side("other", given, "negative_prompt", encoders)
        self.states = dict(zip(("cond", "other"), groups, strict=False)) | self.states

    def _side(self, side: str, given: Arguments, name: str, encoders: Sequence[str]) -> None:
        for encoder in encoders:
            own = texts(given.get(name + encoder.partition("text_encoder")[2]))
            self.texts[side][encoder] = own or texts(given.get(name)) or ("",)


def check_named(given: Arguments, heard: Sequence[Heard]) -> None:
    """Raises RecordingError where texts were read of which none is called the prompt or the negative one: a branch
    would be named by chance. Where no text is given, or beside states that are, an empty one is read.
    """
    named = any(spoken(given, name) for name in ("prompt", "negative_prompt"))
    listed = ", ".join(f"{name}={value!r:.60}" for name, value in given.items() if isinstance(value, str | tuple))
    if not heard or not listed or named or any(isinstance(value, Tensor) for value in given.values()):
        return
    raise RecordingError(
        f"text encoders read {len(heard)} rows, and none of their texts is given as prompt or negative_prompt, so it "
        f"cannot be told which branch reads what: encode_prompt got {listed}. Record a pipeline of the same model "
        "whose encode_prompt takes `prompt` and `negative_prompt`, e.g. a subclass of this one"
    )


def check_speaks(pipe: Any) -> None:
    """Raises UnknownFamily for a pipeline without a method that encodes prompts."""
    parts = [*parts_of(pipe), getattr(pipe, "prior_pipe", None)]
    if any(hasattr(part, name) for part in parts for name in ENCODERS):
        return
    reads = any("text_encoder" in name and part is not None for name, part in pipe.components.items())
    if hasattr(pipe, "_blocks") and reads:
        raise UnknownFamily(
            f"the blocks of {type(pipe).__name__} encode the prompt by a function of their module, which is not heard. "
            "Record the pipeline of the same model that is not made of blocks: it takes these very parts, "
            "StableDiffusion3Pipeline(**parts) for those of Stable Diffusion 3"
        )
    raise UnknownFamily(
        f"{type(pipe).__name__} has no method encode_prompt: it reads no text, or reads it where no word can be told "
        f"from another (its parts are {', '.join(sorted(pipe.components))}). Record a pipeline that encodes a prompt; "
        "if this one reads text, let a subclass encode it in encode_prompt(self, prompt, ...), which returns the states"
    )


def told(encode: Any, args: tuple[Any, ...], kwargs: Arguments) -> Arguments:
    """What a call of an encoding says, by name; several texts as a tuple."""
    given = by_name(encode, args, kwargs)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def spoken(given: Arguments, name: str) -> tuple[str, ...]:
    """All texts that a call gives to any of the encoders: prompt, prompt_2, ..."""
    return tuple(text for rank in RANKS for text in texts(given.get(name + rank)))


def texts(value: Any) -> tuple[str, ...]:
    """One text or several, as several."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def held(row: Tensor, states: Sequence[Tensor]) -> bool:
    """Whether a row [t, c] is one of these."""
    return any(row.shape == own.shape and torch.equal(row, own.to(row)) for own in states)


def state_groups(result: Any) -> list[list[Tensor]]:
    """The sequences of text states in what an encoding returned: for each, its rows [t, c]."""
    groups = []
    if isinstance(result, list) and all(isinstance(row, Tensor) and row.ndim == 2 for row in result):
        result = (result,)  # a row for every prompt, of its own length
    for value in result if isinstance(result, tuple | list) else (result,):
        rows = list(value.flatten(2)) if isinstance(value, Tensor) and value.ndim in (3, 4) else value
        if isinstance(rows, list) and rows and all(isinstance(row, Tensor) and row.ndim == 2 for row in rows):
            groups.append([row.detach() for row in rows])
    return [rows for rows in groups if rows[0].is_floating_point()]
