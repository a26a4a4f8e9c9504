"""Stage 2: the text and picture encoders, by contrast, on captions with the noise of the dials.

Contrast alone learns what tells the captions of a batch apart, and that is soon too little. So both towers are also
asked what is said, or shown, and the patches what they show; the layers that answer are thrown away afterwards.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from probe.generator.train.autoencoder import to_signed
from probe.generator.train.loop import Losses
from probe.generator.world import SIDE, Caption, Scene, World
from probe.generator.world import vocabulary as v

TRAIN_LENGTH = 32  # tokens at the most; the tower is causal and reads at the end token, so padding changes nothing
MAX_SCALE = 100.0
PATCH = 16  # pixels to a side, as the picture encoder cuts them
RARE = -5.0  # where the answers to "is this said?" begin: a caption says a few facts of some hundreds
FACTS, PATCHES = 0.1, 2.0  # weights of the questions beside the contrast, whose loss begins near 4.5


def tokens(tokenizer: CLIPTokenizer, texts: list[str], length: int = TRAIN_LENGTH) -> Tensor:
    """[b, length] token ids, padded and cut."""
    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return rows.input_ids


def pictures(world: World, start: int, count: int) -> Tensor:
    """[b, 3, 128, 128] in [-1, 1]: whole scenes."""
    return _signed(list(world.scenes(count, start)))


def _signed(scenes: list[Scene]) -> Tensor:
    return to_signed(np.stack([np.asarray(scene.picture) for scene in scenes]))


# What is said, and what is shown


@cache
def facts() -> dict[str, int]:
    """What a scene can hold, each with its number: kinds, colours, coloured kinds, gendered kinds, places."""
    coloured = (f"{colour} {kind}" for kind in v.SUBJECTS for colour in v.COLOURS)
    gendered = (f"{gender} {kind}" for kind in v.PROFESSIONS for gender in v.GENDERS)
    return {name: i for i, name in enumerate((*v.KINDS, *v.COLOURS, *coloured, *gendered, *v.PLACES))}


def shown(scene: Scene) -> set[str]:
    """The facts of a scene."""
    return {scene.place}.union(*(_of_thing(thing.kind, thing.colour, thing.gender) for thing in scene.things))


def said(caption: Caption, scene: Scene) -> set[str]:
    """The facts that a caption states of its scene; "an animal" states no kind."""
    held: set[str] = set()
    for i, thing in enumerate(scene.things):
        words = {m.role: caption.text[m.start : m.end] for m in caption.mentions if i in m.things}
        kind = thing.kind if words.get("kind") in (thing.kind, *v.SYNONYMS[thing.kind]) else None
        colour, gender = (trait if trait in words else None for trait in ("colour", "gender"))
        held |= _of_thing(kind, colour and thing.colour, gender and thing.gender)
    return held | ({scene.place} if any(m.role == "place" for m in caption.mentions) else set())


def _of_thing(kind: str | None, colour: str | None, gender: str | None) -> set[str]:
    pairs = {f"{trait} {kind}" for trait in (colour, gender) if trait and kind}
    return pairs | {name for name in (kind, colour) if name}


def marked(rows: list[set[str]]) -> Tensor:
    """[b, fact] 1 where a fact holds."""
    out = torch.zeros(len(rows), len(facts()))
    for i, row in enumerate(rows):
        out[i, [facts()[name] for name in row]] = 1
    return out


def painted(scene: Scene) -> np.ndarray:
    """[patch, kind + colour] the share of each patch that shows each kind, then each colour."""
    kinds = [v.KINDS.index(thing.kind) for thing in scene.things]
    colours = [len(v.KINDS) + list(v.COLOURS).index(thing.colour) if thing.colour else -1 for thing in scene.things]
    out = np.zeros((SIDE // PATCH, SIDE // PATCH, len(v.KINDS) + len(v.COLOURS)), dtype=np.float32)
    for i, (kind, colour) in enumerate(zip(kinds, colours, strict=True)):
        share = scene.mask(i).reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH).mean((1, 3))
        out[..., [kind] if colour < 0 else [kind, colour]] += share[..., None]
    return out.reshape(-1, out.shape[-1])


@dataclass(frozen=True)
class Batch:
    """Pictures, their captions, and the truth about both."""

    x: Tensor  # [b, 3, 128, 128]
    ids: Tensor  # [b, token]
    said: Tensor  # [b, fact]
    shown: Tensor  # [b, fact]
    painted: Tensor  # [b, patch, kind + colour]

    def to(self, device: str) -> "Batch":
        """The same on a device."""
        return Batch(*(each.to(device) for each in (self.x, self.ids, self.said, self.shown, self.painted)))


def draw(world: World, tokenizer: CLIPTokenizer, start: int, count: int) -> Batch:
    """Scenes `start` to `start + count`, one caption each; no more tokens than the longest has."""
    scenes = list(world.scenes(count, start))
    captions = [world.caption(scene) for scene in scenes]
    ids = tokens(tokenizer, [caption.text for caption in captions])
    longest = int((ids == tokenizer.eos_token_id).int().argmax(1).max()) + 1
    truth = marked([said(*pair) for pair in zip(captions, scenes, strict=True)]), marked([shown(s) for s in scenes])
    return Batch(_signed(scenes), ids[:, :longest], *truth, torch.from_numpy(np.stack([painted(s) for s in scenes])))


# What is trained


class Pupil(nn.Module):
    """Both encoders, and the layers that answer what is said, what is shown, and what each patch shows."""

    def __init__(self, clip: CLIPModel):
        super().__init__()
        self.clip = clip
        width, vision = clip.config.projection_dim, clip.config.vision_config.hidden_size
        self.said, self.shown = nn.Linear(width, len(facts())), nn.Linear(width, len(facts()))
        self.painted = nn.Sequential(nn.LayerNorm(vision), nn.Linear(vision, len(v.KINDS) + len(v.COLOURS)))
        for layer in (self.said, self.shown, self.painted[-1]):
            nn.init.constant_(layer.bias, RARE)


def losses(module: nn.Module, batch: Batch) -> Losses:
    """Symmetric cross-entropy over the cosine matrix of the batch, and the questions beside it."""
    out = module.clip(pixel_values=batch.x, input_ids=batch.ids)
    scale = module.clip.logit_scale.exp().clamp(max=MAX_SCALE)
    logits = scale * out.image_embeds.float() @ out.text_embeds.float().T  # [picture, caption]
    truth = torch.arange(len(batch.x), device=batch.x.device)
    read, seen = out.text_model_output, out.vision_model_output  # what they pool is projected, not yet of length one
    return {
        "pictures": F.cross_entropy(logits, truth) / 2,
        "captions": F.cross_entropy(logits.T, truth) / 2,
        "said": FACTS * asked(module.said(read.pooler_output), batch.said),
        "shown": FACTS * asked(module.shown(seen.pooler_output), batch.shown),
        "patches": PATCHES * asked(module.painted(seen.last_hidden_state[:, 1:]), batch.painted),
    }


def asked(answers: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of every fact [..., fact], summed over facts."""
    return F.binary_cross_entropy_with_logits(answers.float(), truth, reduction="none").sum(-1).mean()
