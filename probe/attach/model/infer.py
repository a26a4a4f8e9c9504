"""Models that are not in the table: their layout, from the encoders that were heard and from the first pass.

What joins sequences is one torch call too, so the order of text and picture is seen and not guessed. Where that does
not tell, UnknownFamily says what is missing and how to describe the model.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from probe.attach.model.families import RECIPE, Family, Keeps, Stream, grid_of
from probe.attach.model.layout import Plane
from probe.attach.text.alignment import kept
from probe.attach.text.hearing import Encoded, Heard
from probe.errors import ProbeWarning, UnknownFamily

if TYPE_CHECKING:
    from probe.attach.kept.passes import Pass

RTOL, ATOL = 1e-2, 1e-3  # states went through lower precision, maybe
JOINERS = (torch.cat, torch.concat, torch.concatenate)


def unknown(name: str, missing: str) -> UnknownFamily:
    """The error for a layout that could not be inferred."""
    return UnknownFamily(
        f"{name} is not in the table of families, and {missing}. Describe it in five lines:{RECIPE.format(name=name)}"
    )


class Joins(TorchFunctionMode):
    """Sees how sequences are joined along their length: length of the whole -> lengths of the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[int, tuple[int, ...]] = {}
        self.running = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in JOINERS:
            self._note(*args, **(kwargs or {}))
        return out

    def _note(self, tensors: Sequence[Tensor], dim: int = 0) -> None:
        axis = dim % tensors[0].ndim
        if tensors[0].ndim >= 3 and axis in (1, tensors[0].ndim - 2):
            lengths = [tensor.shape[axis] for tensor in tensors]
            known = [self.parts.get(length, (length,)) for length in lengths]
            self.parts.setdefault(sum(lengths), tuple(part for parts in known for part in parts))

    def start(self) -> None:
        if not self.running:
            self.running = True
            self.__enter__()

    def stop(self) -> None:
        if self.running:
            self.running = False
            self.__exit__(None, None, None)


def streams_of(name: str, encoded: Encoded) -> tuple[Stream, ...]:
    """The text encoders whose states make the columns: by what they gave, else by lengths and widths."""
    rows, read = encoded.states.get("cond", []), _first_rows(encoded)
    if not rows or not read:
        raise unknown(name, "no text states were seen to come out of its encoding")
    found = _by_content(rows, encoded) or _by_length(rows[0], encoded, read)
    if found:
        return found
    listed = ", ".join(f"{encoder} read {len(row.ids)}" for encoder, row in read.items())
    raise unknown(name, f"which encoders make its {len(rows[0])} columns of text cannot be told ({listed})")


def _first_rows(encoded: Encoded) -> dict[str, Heard]:
    """What each encoder read first: the prompt."""
    read: dict[str, Heard] = {}
    for row in encoded.heard:
        read.setdefault(row.encoder, row)
    return read


def _by_content(states: Sequence[Tensor], encoded: Encoded) -> tuple[Stream, ...]:
    """The encoder whose own states these are, and which of them went on: the same for every prompt."""
    for encoder, given in encoded.given.items():
        heard = [row for row in encoded.heard if row.encoder == encoder]
        rows = list(zip(heard, given, strict=False))
        found = (stream for row, layers in rows for stream in _streams(encoder, states[0], row, layers))
        for stream in found:
            if all(any(_makes(stream, own, row, layers) for row, layers in rows) for own in states):
                return (stream,)
    return ()


def _streams(encoder: str, states: Tensor, row: Heard, layers: Sequence[Tensor]) -> Iterator[Stream]:
    """Ways in which states [t, c] could be taken from what an encoder read, by what it gave, simple ones first."""
    ways = [_stream(encoder, keeps=keeps) for keeps in get_args(Keeps)]
    yield from (way for way in ways if _makes(way, states, row, layers))
    known = next((i for i, state in enumerate(states) if state.any()), 0)
    width = layers[0].shape[-1]
    for layer in layers if states.shape[-1] % width == 0 else ():
        same = torch.isclose(layer, states[known, :width].to(layer), rtol=RTOL, atol=ATOL).all(-1)  # [t]
        places = same.nonzero().flatten().tolist()
        shifted = (_stream(encoder, drop=place - known) for place in places if place > known)
        yield from (way for way in shifted if _makes(way, states, row, layers))


def _makes(stream: Stream, states: Tensor, row: Heard, layers: Sequence[Tensor]) -> bool:
    """Whether a stream makes these states of what its encoder gave: of one layer, or of several in the channels.

    Columns beyond what it read are filled up with zeros.
    """
    attended, width = row.attended or (True,) * len(row.ids), layers[0].shape[-1]
    places = kept(stream, attended, len(states), int(stream.drop))
    ours = [i for i, place in enumerate(places) if attended[place]]
    if not ours or states.shape[-1] % width or len(layers[0]) != len(attended) or states[len(places) :].any():
        return False
    given = [layer[[places[i] for i in ours]].float() for layer in layers]
    parts = states[ours].float().to(given[0]).split(width, dim=-1)
    return all(any(torch.allclose(part, layer, rtol=RTOL, atol=ATOL) for layer in given) for part in parts)


def _by_length(states: Tensor, encoded: Encoded, read: Mapping[str, Heard]) -> tuple[Stream, ...]:
    """The encoders that read as many tokens as there are columns: side by side in the channels, or in a row."""
    length, width = states.shape
    counts = {encoder: len(row.ids) for encoder, row in read.items()}
    widths = {encoder: given[0][0].shape[-1] for encoder, given in encoded.given.items()}
    same = [encoder for encoder, count in counts.items() if count == length]
    if same:
        alone = [encoder for encoder in same if widths.get(encoder) == width] or same
        beside = same if sum(widths.get(encoder, 0) for encoder in same) == width else alone[-1:]
        return (_stream(beside[0], beside=tuple((encoder, _tokenizer(encoder)) for encoder in beside[1:])),)
    choices = (chosen for size in range(2, len(counts) + 1) for chosen in combinations(counts, size))
    fitting = (chosen for chosen in choices if sum(counts[encoder] for encoder in chosen) == length)
    return tuple(_stream(encoder) for encoder in next(fitting, ()))


def _stream(encoder: str, **options: Any) -> Stream:
    return Stream(encoder, _tokenizer(encoder), **options)


def _tokenizer(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")


def check_known(name: str, states: Tensor, encoded: Encoded) -> None:
    """Raises UnknownFamily where a denoiser is given states [t, ...] of another width than the prompts' states."""
    width, rows = states.flatten(1).shape[1], encoded.states.get("cond")
    if rows and width != rows[0].shape[1]:
        raise unknown(
            name,
            f"its denoiser is given text states {width} wide, where the encoding of its prompts returned those "
            f"{rows[0].shape[1]} wide: which word is which of its columns was not seen",
        )


def oriented(family: Family, sample: Tensor | Sequence[Tensor]) -> Family:
    """A family that knows where the latents of a film have their channels, which the config counts.

    Some denoisers count their own alone, where they are given a picture to start from and its mask as well.
    """
    if not isinstance(sample, Tensor) or sample.ndim != 5 or family.channels is None:
        return family
    counts = (family.channels, 2 * family.channels + 1)
    first, second, last = (size in counts for size in (*sample.shape[1:3], sample.shape[-1]))
    return replace(family, frames_first=second and not first, channels_last=last and not first and not second)


def pools(family: Family, rows: int, where: Plane) -> bool:
    """Whether what asks is no cell but the mean of a text: one query, of a model whose levels are not known to be."""
    return family.inferred and rows == 1 < where.cells


def foreign(family: Family, columns: int, current: "Pass") -> bool:
    """Whether keys are neither text nor cells: a picture's that the denoiser is given, or fewer than the text's.

    Fewer are a face's, say, made inside of the denoiser, where cells ask the whole text elsewhere.
    """
    fewer = columns < current.text and columns not in (*current.texts, *current.attended)
    return columns in current.others or (family.inferred and family.text == "cross" and fewer)


def settled(family: Family, rows: int, columns: int, current: "Pass", joins: Joins) -> tuple[Family, Plane]:
    """The family and the plane, once a call of `rows` queries and `columns` keys shows where the text's keys are."""
    text, where = current.text, current.plane
    if pools(family, rows, where):
        return family, where
    if text and columns in (text, rows + text) and rows != columns:
        ends = set(accumulate(joins.parts.get(columns, ())))
        if columns != text and (text in ends) == (rows in ends):
            raise unknown(family.name, f"which of the {columns} keys are the {text} of the text was not seen")
        return replace(family, text="cross", behind=columns != text and rows in ends), where
    beside = joins.parts.get(columns, ())
    further = set(beside) & {rows, *current.others}  # perhaps of another encoder's text
    if rows != columns and beside.count(text) == 1 and not further:
        return replace(family, text="cross", **_among(family, beside, text)), where
    parts = joins.parts.get(rows, ())
    effective = next((length for length in current.attended if length in parts), 0) if text not in parts else 0
    text = effective or text  # of each row, the text without its padding
    if rows != columns or text not in parts or rows == text:
        return family, where
    if parts.count(text) > 1:
        raise unknown(family.name, f"text and picture are both {text} tokens long, so which is first cannot be told")
    place, picture = parts.index(text), max(part for part in parts if part != text)
    side = "last" if parts.index(picture) < place else "first"
    grid = _grid(picture, where)
    if grid is None or (side == "last" and parts[0] != picture) or (side == "first" and parts[place + 1] != picture):
        listed = " + ".join(map(str, parts))
        raise unknown(family.name, f"its sequence of {listed} tokens holds no picture at a known place")
    patch = max(1, round(where.height / grid[0]))
    plane = Plane(where.frames, *grid, sum(parts[place + 1 :]) if side == "first" else picture)
    registers = sum(parts[:place]) if side == "first" else 0
    return replace(family, text=side, patch=patch, registers=registers, effective=effective > 0), plane


def _among(family: Family, parts: tuple[int, ...], text: int) -> dict[str, Any]:
    """Where the text's keys are in a cross-attention that also asks tokens of another kind, of a picture say."""
    start, others = sum(parts[: parts.index(text)]), sum(parts) - text
    if start not in (0, others):
        raise unknown(family.name, f"its keys of {' + '.join(map(str, parts))} tokens have the text's in their middle")
    return {"others": others, "behind": start > 0}


def weightless(module: Any) -> bool:
    """Whether an attention module has no weights to read: diffusers calls the processors of linear attention so."""
    return "Linear" in type(getattr(module, "processor", None)).__name__


def concluded(family: Family, text: int, *, reads: bool) -> Family:
    """The inferred family after a whole pass; says so in a ProbeWarning. Raises UnknownFamily if no words are read."""
    if not reads and text:
        raise unknown(family.name, f"no attention of cells to the {text} columns of text was seen in its first pass")
    sides = {"cross": "has keys of its own", "first": "is before the picture", "last": "is behind the picture"}
    encoders = ", ".join(stream.encoder for stream in family.streams) or "no encoder"
    side = sides.get(family.text, "is none")
    joint = f"; a cell is {family.patch} latent pixels wide; {family.registers} tokens before all"
    warnings.warn(
        f"{family.name} is not in the table of families; its layout was inferred: text {side}, from {encoders}"
        f"{joint if family.joint else ''}",
        ProbeWarning,
        stacklevel=2,
    )
    return family


def _grid(cells: int, where: Plane) -> tuple[int, int] | None:
    return grid_of(cells // where.frames, where.height, where.width) if cells % where.frames == 0 else None
