"""What differs between models, as data: where the text sits, and how a picture becomes a grid of cells.

To describe a model that is not here, add an entry, keyed by the class of its denoiser:

    FAMILIES["MyTransformer2DModel"] = Family(
        "My model",
        text="first",  # where the keys of the text are: "cross" (apart), "first" or "last" (beside the picture's)
        streams=(Stream("text_encoder", "tokenizer"),),  # in the order of the sequence
        patch=2,  # side of a cell, in latent pixels
    )

The encoders' parts stay apart: "cat@text_encoder_3" is the word in the columns of that encoder alone, "cat" in all.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

from probe.attach.model.compiled import plain
from probe.errors import UnknownFamily

TextSide = Literal["cross", "first", "last", "none", "unknown"]
Keeps = Literal["all", "attended", "tail", "first and tail"]
RECIPE = """
    from probe.attach.model.families import FAMILIES, Family, Stream
    FAMILIES["{name}"] = Family(
        "{name}", text="first",  # or "last" (behind the picture), "cross" (keys of its own)
        streams=(Stream("text_encoder", "tokenizer"),), patch=2,
    )"""


@dataclass(frozen=True, slots=True)
class Stream:
    """One text encoder's part of the sequence of text states.

    `keeps` says which of the positions that it read go on to the denoiser: "all" or "attended" (no padding), without
    the first ones where `drop`, or the pipeline's attribute of that name, says how many; "tail": as many of the last as
    there are states; "first and tail": the same with the very first. `beside` names encoders (and tokenizers) whose
    states lie on the same columns, joined along the channels. `length` is the number of columns where that is fixed.
    One that is `quoted` reads no more of a prompt than stands between one of these pairs of marks, as letters to draw.
    """

    encoder: str
    tokenizer: str
    length: int | None = None
    keeps: Keeps = "all"
    drop: str | int = 0
    beside: tuple[tuple[str, str], ...] = ()
    quoted: tuple[str, ...] = ()

    def dropped(self, pipe: Any) -> int:
        """How many of the first positions a pipeline leaves out."""
        return self.drop if isinstance(self.drop, int) else int(getattr(pipe, self.drop, 0))


@dataclass(frozen=True, slots=True)
class Family:
    """How one class of denoiser lays out its attention.

    `text` says where the text's keys are: alone in a cross-attention ("cross"), or before ("first") or after ("last")
    the picture's in a joint one; "none": it reads no text. `patch` is the side of a cell in latent pixels, `packed` the
    side of the square of latent pixels in a token's channels, where the pipeline hands over tokens.
    """

    name: str
    text: TextSide
    streams: tuple[Stream, ...]
    patch: int = 1
    patch_frames: int = 1  # latent frames in a cell, by the denoiser's config
    packed: int = 1
    registers: int = 0  # learned tokens at the very front
    fill: int = 1  # text and picture are each filled up to a multiple of this many tokens
    sign: int = 1  # -1 where the pipeline turns the denoiser's output round before it steps
    gathered: bool = False  # what is attended to of all streams comes first, the padding of all behind it
    pictured: str = ""  # argument with the tokens of a picture before a gathered text; zeros are padding
    canvas: int = 0  # tokens that a picture is filled up to if its latents are no square, by the denoiser's config
    effective: bool = False  # only the attended text takes part in a joint attention, so rows differ in length
    cond_first: bool = False  # of two equal prompts in a batch, the first is cond
    others: int = 0  # keys of tokens of another kind that each cross-attention asks beside the text's
    behind: bool = False  # where a cross-attention asks others or the picture's keys too, the text's come after them
    frames_first: bool = False  # latents are [b, frame, channel, y, x]
    channels_last: bool = False  # latents are [b, frame, y, x, channel]
    further: tuple[str, ...] = ()  # arguments with more text states, behind the first; twice if they are there twice
    silent: tuple[str, ...] = ()  # patterns of attention modules without weights: linear attention
    note: str = ""
    inferred: bool = False  # not from the table: what is not known yet is learned from the first pass
    channels: int | None = None  # of the denoiser's input, where it has to be inferred

    @property
    def joint(self) -> bool:
        """Whether text and picture attend to one another in one sequence."""
        return self.text in ("first", "last")

    @property
    def apart(self) -> bool:
        """Whether the columns of the text are the states that its encoders gave, in their order, each once."""
        return not self.gathered and len(set(self.streams)) == len(self.streams)

    def starts(self, cells: int, text: int) -> tuple[int, int]:
        """Where picture and text start in a joint sequence of `cells`, filled up, and `text` columns of text."""
        if self.text == "last":
            return 0, self.filled(cells)
        return self.registers + self.filled(text), self.registers

    def total(self, tokens: int, text: int) -> int:
        """Length of a joint sequence of picture tokens and text."""
        return self.registers + self.filled(tokens) + self.filled(text)

    def filled(self, tokens: int) -> int:
        return ceil(tokens / self.fill) * self.fill


GLYPHS = Stream("text_encoder_2", "tokenizer_2", quoted=('""', "“”"))
TEMPLATED = Stream("text_encoder", "tokenizer", drop="prompt_template_encode_start_idx")
LLAMA = Stream("text_encoder_4", "tokenizer_4")
CLIP = Stream("text_encoder", "tokenizer")
CLIPS = Stream("text_encoder", "tokenizer", beside=(("text_encoder_2", "tokenizer_2"),))
T5 = Stream("text_encoder_2", "tokenizer_2")
ATTENDED = Stream("text_encoder", "tokenizer", keeps="attended")

FAMILIES: dict[str, Family] = {
    "UNet2DConditionModel": Family("UNet", "cross", (CLIP,)),
    "UNet2DConditionModel/2": Family("UNet, two encoders", "cross", (CLIPS,)),
    "UNet2DConditionModel/image": Family(
        "Kandinsky 2.2",
        "none",
        (),
        note="the decoder sees the embedding of a picture that the prior made from the prompt; it reads no text, so no "
        "columns of its attention belong to words",
    ),
    "SD3Transformer2DModel": Family("SD3", "last", (CLIPS, Stream("text_encoder_3", "tokenizer_3")), patch=2),
    "FluxTransformer2DModel": Family("FLUX.1", "first", (T5,), packed=2),
    "Flux2Transformer2DModel": Family("FLUX.2", "first", (CLIP,)),
    "QwenImageTransformer2DModel": Family(
        "Qwen-Image",
        "first",
        (replace(TEMPLATED, keeps="attended"),),
        packed=2,
    ),
    "ZImageTransformer2DModel": Family("Z-Image", "last", (ATTENDED,), patch=2, fill=32, sign=-1, cond_first=True),
    "CogView4Transformer2DModel": Family("CogView 4", "first", (CLIP,), patch=2),
    "AuraFlowTransformer2DModel": Family("AuraFlow", "first", (CLIP,), patch=2, registers=8),
    "ChromaTransformer2DModel": Family("Chroma", "first", (CLIP,), packed=2),
    "PixArtTransformer2DModel": Family("PixArt", "cross", (CLIP,), patch=2),
    "SanaTransformer2DModel": Family(
        "Sana", "cross", (Stream("text_encoder", "tokenizer", keeps="first and tail"),), silent=("*.attn1",)
    ),
    "Lumina2Transformer2DModel": Family("Lumina 2", "first", (ATTENDED,), patch=2, sign=-1, effective=True),
    "HunyuanDiT2DModel": Family("HunyuanDiT", "cross", (CLIP, T5), patch=2, further=("encoder_hidden_states_t5",)),
    "CogVideoXTransformer3DModel": Family("CogVideoX", "first", (CLIP,), patch=2, frames_first=True),
    "WanTransformer3DModel": Family("Wan", "cross", (CLIP,), patch=2),
    "HiDreamImageTransformer2DModel": Family(
        "HiDream",
        "last",
        (Stream("text_encoder_3", "tokenizer_3"), LLAMA, LLAMA),  # its last states, and those of the block's own layer
        patch=2,
        sign=-1,
        further=("encoder_hidden_states_llama3",) * 2,
    ),
    "HunyuanImageTransformer2DModel": Family(
        "HunyuanImage",
        "last",
        (replace(GLYPHS, quoted=("''", *GLYPHS.quoted, "‘’")), TEMPLATED),
        gathered=True,
        further=("encoder_hidden_states_2",),
    ),
    "HunyuanVideo15Transformer3DModel": Family(
        "HunyuanVideo 1.5",
        "last",
        (GLYPHS, TEMPLATED),
        gathered=True,
        pictured="image_embeds",
        further=("encoder_hidden_states_2", "image_embeds"),
    ),
    "LTXVideoTransformer3DModel": Family("LTX", "cross", (CLIP,)),
    "HunyuanVideoTransformer3DModel": Family(
        "HunyuanVideo", "last", (Stream("text_encoder", "tokenizer", keeps="tail"),), patch=2
    ),
    "UNetMotionModel": Family("AnimateDiff", "cross", (CLIP,)),
    "UNetMotionModel/2": Family("AnimateDiff", "cross", (CLIPS,)),
}


def denoisers(pipe: Any) -> dict[str, Any]:
    """The parts that denoise, by the name that the pipeline has for them; two where each has its own noise levels.

    Those of other names are known by their classes. Raises UnknownFamily where there is none.
    """
    names = ("transformer", "unet", "transformer_2")
    found = {name: plain(getattr(pipe, name)) for name in names if getattr(pipe, name, None) is not None}
    if not found:
        found = _by_class(pipe)
    return found


def _by_class(pipe: Any) -> dict[str, Any]:
    """The parts whose classes are described, of a pipeline whose one scheduler says when a step ends."""
    parts = {name: plain(part) for name, part in pipe.components.items() if part is not None}
    found = {name: part for name, part in parts.items() if type(part).__name__ in FAMILIES}
    if found and hasattr(pipe, "scheduler"):
        return found
    listed = ", ".join(f"{name} ({type(part).__name__})" for name, part in sorted(parts.items()))
    raise UnknownFamily(
        f"{type(pipe).__name__} has no denoiser named 'unet' or 'transformer', nor one of a class in the table "
        f"of families that runs under pipe.scheduler; its parts are {listed}. Describe the one that denoises, if it "
        f"attends to text, by its class, in five lines:{RECIPE.format(name='ITS_CLASS')}"
    )


def denoiser(pipe: Any) -> tuple[str, Any]:
    """(name, module) of the first part that denoises."""
    return next(iter(denoisers(pipe).items()))


def family(pipe: Any) -> Family:
    """The family of a pipeline's denoiser; one that is not in the table is still to be inferred."""
    _, module = denoiser(pipe)
    name = type(module).__name__
    variants = [f"{name}{suffix}" for suffix in _suffixes(pipe, module)]
    found = (FAMILIES[key] for key in (*variants, name) if key in FAMILIES)
    counts = (module.config.get(key) for key in ("in_channels", "in_visual_dim"))
    channels = next((count for count in counts if isinstance(count, int)), None)
    described = next(found, None) or Family(name, "unknown", (), inferred=True, channels=channels)
    return replace(described, patch_frames=_patch_frames(module.config), canvas=_canvas(module.config))


def _canvas(config: Any) -> int:
    """How many tokens a denoiser has room for, where it is built for pictures up to a size."""
    room, patch = config.get("max_resolution"), config.get("patch_size")
    return room[0] * room[1] // patch**2 if room and isinstance(patch, int) else 0


def _patch_frames(config: Any) -> int:
    """How many latent frames a denoiser takes together."""
    patch, in_time = config.get("patch_size"), config.get("patch_size_t")
    return in_time or (patch[0] if isinstance(patch, tuple | list) and len(patch) == 3 else 1)


def _suffixes(pipe: Any, module: Any) -> list[str]:
    """What tells apart the models that share a class."""
    found = []
    if module.config.get("encoder_hid_dim_type") == "image_proj":
        found.append("/image")
    if getattr(pipe, "text_encoder_2", None) is not None:
        found.append("/2")
    return found


def grid_of(cells: int, height: int, width: int) -> tuple[int, int] | None:
    """The grid that `cells` queries make of a height x width plane shrunk by a whole factor, or None."""
    for factor in (1, 2, 4, 8, 16, 32, 64):
        rows, columns = ceil(height / factor), ceil(width / factor)
        if rows * columns == cells:
            return rows, columns
    return None
