"""Stage 1: the autoencoder, on object-centred crops (three times as much drawing per pixel as whole scenes)."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.generator.train.loop import Losses
from probe.generator.world import SIDE, Scene, World

CROP = 64
KL_WEIGHT = 1e-4


def crop(scene: Scene, rng: random.Random, side: int = CROP) -> np.ndarray:
    """[y, x, rgb] uint8: a square around one thing, jittered; one in ten anywhere."""
    thing = rng.choice(scene.things)
    cx, cy = thing.x + thing.side // 2, thing.y + thing.side // 2
    if rng.random() < 0.1:
        cx, cy = rng.randrange(SIDE), rng.randrange(SIDE)
    reach = max(4, thing.side // 2)
    x = min(max(0, cx - side // 2 + rng.randint(-reach, reach) // 2), SIDE - side)
    y = min(max(0, cy - side // 2 + rng.randint(-reach, reach) // 2), SIDE - side)
    return np.asarray(scene.picture)[y : y + side, x : x + side]


def crops(world: World, start: int, count: int) -> Tensor:
    """[b, 3, 64, 64] in [-1, 1]."""
    rng = random.Random(start)
    return to_signed(np.stack([crop(scene, rng) for scene in world.scenes(count, start)]))


def to_signed(pictures: np.ndarray) -> Tensor:
    """[b, y, x, rgb] uint8 -> [b, rgb, y, x] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def losses(module: nn.Module, x: Tensor) -> Losses:
    """Pixels (L1 and MSE), edges (L1 of the gradient), colours (MSE after 8 x 8 means) and a little KL."""
    posterior = module.encode(x).latent_dist
    y = module.decode(posterior.sample()).sample.float()
    return {
        "l1": F.l1_loss(y, x),
        "mse": F.mse_loss(y, x),
        "edges": _edges(y, x),
        "colour": F.mse_loss(F.avg_pool2d(y, 8), F.avg_pool2d(x, 8)),
        "kl": KL_WEIGHT * posterior.kl().mean() / x[0].numel(),
    }


def _edges(y: Tensor, x: Tensor) -> Tensor:
    d = y - x
    return (d[..., 1:, :] - d[..., :-1, :]).abs().mean() + (d[..., 1:] - d[..., :-1]).abs().mean()
