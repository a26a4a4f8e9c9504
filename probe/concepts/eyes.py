"""A CLIP that looks at pictures and words, so that a concept can be compared with what it decomposes into."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.errors import BadModel

BATCH = 32
MENAGERIE = "menagerie"
PARTS = ("AutoTokenizer", "CLIPImageProcessor")


@dataclass(frozen=True)
class Eyes:
    """A transformers CLIPModel with its tokenizer, and the mean and deviation of the pixels that it was trained on.

    For Menagerie: `Eyes(probe.generator.weights.clip(), pipe.tokenizer)`. It sees what it was trained to see: two
    pictures that differ in what no caption tells may look the same to it.
    """

    model: Any
    tokenizer: Any
    mean: float | tuple[float, float, float] = 0.5
    deviation: float | tuple[float, float, float] = 0.5

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[picture, feature], rows of length 1."""
        return np.concatenate([self._see(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """[text, feature], rows of length 1."""
        return np.concatenate([self._read(list(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)])

    @torch.no_grad()
    def patches(self, pictures: Sequence[Image.Image]) -> list[np.ndarray]:
        """[picture, patch, channel] after each layer, every patch of length 1."""
        pixels = torch.stack([self._pixels(picture) for picture in pictures]).to(self.model.device)
        layers = self.model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        return [_unit(layer[:, 1:]) for layer in layers[1:]]

    @torch.no_grad()
    def _see(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        pixels = torch.stack([self._pixels(picture) for picture in pictures]).to(self.model.device)
        return _unit(self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output))

    @torch.no_grad()
    def _read(self, texts: list[str]) -> np.ndarray:
        read = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        ids = read.input_ids.to(self.model.device)
        return _unit(self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output))

    def _pixels(self, picture: Image.Image) -> Tensor:
        """[3, y, x]."""
        side = self.model.config.vision_config.image_size
        scaled = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        pixels = (np.asarray(scaled, np.float32) / 255 - np.asarray(self.mean)) / np.asarray(self.deviation)
        return torch.from_numpy(pixels).float().permute(2, 0, 1).contiguous()


def open_eyes(source: str = MENAGERIE) -> Eyes:
    """Menagerie's own CLIP, or one from a folder with a transformers CLIP model, its tokenizer and image processor.

    Nothing is fetched. Raises BadModel for a folder without one of them.
    """
    if source == MENAGERIE:
        weights, tokenizer = import_module("probe.generator.weights"), import_module("probe.generator.tokenizer")
        return Eyes(weights.clip(), tokenizer.build())
    transformers = import_module("transformers")
    model = loaded(transformers.CLIPModel, source, use_safetensors=True).eval()
    tokenizer, processor = (loaded(getattr(transformers, part), source) for part in PARTS)
    return Eyes(model, tokenizer, tuple(processor.image_mean), tuple(processor.image_std))


def loaded(kind: Any, source: str, **options: Any) -> Any:
    """A part of a model from a folder; nothing is fetched and nothing unpickled. Raises BadModel."""
    try:
        return kind.from_pretrained(source, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel(f"{source} holds no {kind.__name__} ({error}); save it there with save_pretrained") from error


def _unit(rows: Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
