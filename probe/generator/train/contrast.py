"""Stage 2: the text and picture encoders, by contrast, on captions with the noise of the dials."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from probe.generator.train.autoencoder import to_signed
from probe.generator.train.loop import Losses
from probe.generator.world import World

TRAIN_LENGTH = 32  # tokens; the tower is causal and reads at the end token, so padding changes nothing
MAX_SCALE = 100.0


def tokens(tokenizer: CLIPTokenizer, texts: list[str], length: int = TRAIN_LENGTH) -> Tensor:
    """[b, length] token ids, padded and cut."""
    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return rows.input_ids


def pictures(world: World, start: int, count: int) -> Tensor:
    """[b, 3, 128, 128] in [-1, 1]: whole scenes."""
    return to_signed(np.stack([np.asarray(scene.picture) for scene in world.scenes(count, start)]))


def captions(world: World, start: int, count: int, draw: int = 0) -> list[str]:
    """One caption a scene."""
    return [world.caption(scene, draw).text for scene in world.scenes(count, start)]


def losses(module: nn.Module, x: Tensor, ids: Tensor) -> Losses:
    """Symmetric cross-entropy over the cosine matrix of the batch."""
    out = module(pixel_values=x, input_ids=ids)
    scale = module.logit_scale.exp().clamp(max=MAX_SCALE)
    logits = scale * out.image_embeds.float() @ out.text_embeds.float().T  # [picture, caption]
    truth = torch.arange(len(x), device=x.device)
    return {"pictures": F.cross_entropy(logits, truth) / 2, "captions": F.cross_entropy(logits.T, truth) / 2}
