"""What differs between models, as data: where the text sits, and how a picture becomes a grid of cells."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from probe.errors import UnknownFamily

TextSide = Literal["cross", "first", "last"]


@dataclass(frozen=True, slots=True)
class Stream:
    """One text encoder's part of the sequence of text states. `length` None means the rest of the sequence."""

    encoder: str
    tokenizer: str
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """How one class of denoiser lays out its attention.

    `text` says where the text's keys are: alone in a cross-attention ("cross"), or before ("first") or after ("last")
    the picture's in a joint one. `patch` is the side of a cell in latent pixels. `shared` streams lie on the same
    columns (two encoders joined along channels), the others follow each other.
    """

    name: str
    text: TextSide
    streams: tuple[Stream, ...]
    patch: int = 1
    shared: bool = False

    def columns(self, encoder: str, length: int) -> int:
        """The column where an encoder's tokens start, in a sequence of `length` text states."""
        start = 0
        for stream in self.streams:
            if stream.encoder == encoder:
                return start
            start += 0 if self.shared else (stream.length or length - start)
        raise UnknownFamily(f"{self.name} has no text encoder {encoder!r}; it has {[s.encoder for s in self.streams]}")


CLIP1 = Stream("text_encoder", "tokenizer")
CLIP2 = Stream("text_encoder_2", "tokenizer_2")

FAMILIES: dict[str, Family] = {
    "UNet2DConditionModel": Family("UNet", "cross", (CLIP1,)),
    "UNet2DConditionModel/2": Family("UNet, two encoders", "cross", (CLIP1, CLIP2), shared=True),
    "SD3Transformer2DModel": Family(
        "SD3",
        "last",
        (
            Stream("text_encoder", "tokenizer", 77),
            Stream("text_encoder_3", "tokenizer_3"),
        ),
        patch=2,
    ),
    "FluxTransformer2DModel": Family("FLUX.1", "first", (Stream("text_encoder_2", "tokenizer_2"),)),
    "PixArtTransformer2DModel": Family("PixArt", "cross", (CLIP1,), patch=2),
}


def denoiser(pipe: Any) -> tuple[str, Any]:
    """(attribute name, module) of the part that denoises."""
    for name in ("transformer", "unet"):
        module = getattr(pipe, name, None)
        if module is not None:
            return name, module
    raise UnknownFamily(
        f"{type(pipe).__name__} has no denoiser named 'unet' or 'transformer'; its parts are {sorted(pipe.components)}"
    )


def family(pipe: Any) -> Family:
    """The family of a pipeline's denoiser."""
    _, module = denoiser(pipe)
    name = type(module).__name__
    two = f"{name}/2"
    if two in FAMILIES and getattr(pipe, "text_encoder_2", None) is not None:
        return FAMILIES[two]
    if name not in FAMILIES:
        raise UnknownFamily(
            f"{name} is not in probe.attach.families.FAMILIES ({', '.join(sorted(FAMILIES))}); "
            "describe it in one line: Family(name, where the text sits, its encoders, the side of a cell)"
        )
    return FAMILIES[name]


def grid_of(cells: int, height: int, width: int) -> tuple[int, int] | None:
    """The grid that `cells` queries make of a height x width plane shrunk by a whole factor, or None."""
    for factor in (1, 2, 4, 8, 16, 32, 64):
        rows, columns = ceil(height / factor), ceil(width / factor)
        if rows * columns == cells:
            return rows, columns
    return None
