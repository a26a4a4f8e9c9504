"""What relevancy explains: any scalar of what the denoiser predicts for one picture at one step.

A target is called with what is `Seen` and returns a scalar with a graph:

    def left_is_red(seen):
        return seen.picture[:, 0, :, : seen.picture.shape[-1] // 2].mean()

    probe.record(pipe, explain=probe.Relevancy(target=left_is_red))
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from probe.attach.kept.thumbnails import decoded, decodes
from probe.attach.model.prediction import Level
from probe.errors import BadInput

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seen:
    """One picture at one step. Tensors [1, c, y, x] have a graph to the conditional output, and to nothing else.

    `other` is the other branch's output, a constant; None where there is none. `scale` is that of the guidance.
    """

    output: Tensor
    other: Tensor | None
    latents: Tensor
    level: Level
    vae: Any
    scale: float = 1.0
    box: Box | None = None

    @property
    def guidance(self) -> Tensor:
        """Conditional minus unconditional output. Raises BadInput where there is no other branch."""
        if self.other is None:
            raise alone()
        return self.output - self.other

    @property
    def x0(self) -> Tensor:
        """The predicted clean latents: of the guided prediction, or of the conditional one where it is alone."""
        guided = self.output if self.other is None else self.other + self.scale * self.guidance
        return replace(self.level, scale=1.0).x0(guided, self.latents)  # the denoiser is given scaled latents

    @property
    def picture(self) -> Tensor:
        """[1, 3, y, x] from about -1 to 1: x0 through the pipeline's own autoencoder. Raises BadInput without one."""
        if not decodes(self.vae, self.latents.shape[1]):
            raise BadInput(
                f"{type(self.vae).__name__} does not decode these latents of {self.latents.shape[1]} channels as they "
                "are; let the target look at seen.x0"
            )
        return decoded(self.x0, self.vae)

    def inside(self, plane: Tensor) -> Tensor:
        """What of a plane [..., y, x] lies in the box. Raises BadInput for a box without a cell."""
        if self.box is None:
            return plane
        left, top, right, bottom = self.box
        height, width = plane.shape[-2:]
        y, x = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
        inside = plane[..., y, x]
        if inside.numel() == 0:
            raise BadInput(f"the box {self.box} holds no cell of {height} x {width} latents; make it larger")
        return inside


def alone() -> BadInput:
    """The error where there is no guidance."""
    return BadInput(
        "relevancy of the guidance needs both branches, and this run has one; ask for Relevancy(target='output')"
    )


Target = Callable[[Seen], Tensor]


def guidance(seen: Seen) -> Tensor:
    """Half the squared norm of what the prompt adds, in the box."""
    return (seen.inside(seen.guidance) ** 2).sum() / 2


def output(seen: Seen) -> Tensor:
    """Half the squared norm of the conditional output, in the box."""
    return (seen.inside(seen.output) ** 2).sum() / 2


def x0(seen: Seen) -> Tensor:
    """Half the squared norm of the predicted clean latents, in the box."""
    return (seen.inside(seen.x0) ** 2).sum() / 2


TARGETS: dict[str, Target] = {"guidance": guidance, "output": output, "x0": x0}


@dataclass(frozen=True)
class ClipSimilarity:
    """Cosine of the predicted picture (its box, if there is one) with a text.

    `model` is any transformers CLIPModel, `tokenizer` its tokenizer; `mean` and `std` are those of its pictures. Where
    the cosine is only partly about the word, so is the relevancy.
    """

    model: Any
    tokenizer: Any
    text: str
    mean: tuple[float, ...] = tuple(OPENAI_CLIP_MEAN)
    std: tuple[float, ...] = tuple(OPENAI_CLIP_STD)

    @property
    def name(self) -> str:
        """What a trace calls it."""
        return f"similarity to {self.text!r}"

    def __call__(self, seen: Seen) -> Tensor:
        return F.cosine_similarity(self._picture(seen.inside(seen.picture)), self._words())[0]

    def _picture(self, picture: Tensor) -> Tensor:
        side = self.model.config.vision_config.image_size
        pixels = F.interpolate(picture.float() / 2 + 0.5, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (pixels.new_tensor(value).view(1, 3, 1, 1) for value in (self.mean, self.std))
        states = self.model.vision_model(pixel_values=((pixels - mean) / std).to(self.model.dtype))
        return self.model.visual_projection(states.pooler_output)

    @torch.no_grad()
    def _words(self) -> Tensor:
        ids = self.tokenizer(self.text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        states = self.model.text_model(input_ids=ids.to(self.model.device))
        return self.model.text_projection(states.pooler_output)
