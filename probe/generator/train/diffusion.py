"""Stage 3: the denoiser, on cached latents; captions are drawn anew each time."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from probe.generator.parts import TEXT_LENGTH
from probe.generator.train.contrast import captions, pictures, tokens
from probe.generator.train.loop import Losses, autocast
from probe.generator.world import World

EMPTY = 0.1  # share of empty captions, for classifier-free guidance
GAMMA = 5.0  # min-SNR weighting (Hang et al. 2023), here for v-prediction
ENCODE_BATCH = 32


@torch.no_grad()
def latents(vae: AutoencoderKL, world: World, count: int, device: str = "cpu") -> Tensor:
    """[count, 4, 32, 32] float16 means of the posterior, not yet scaled."""
    rows = []
    for start in range(0, count, ENCODE_BATCH):
        with autocast(device):
            x = pictures(world, start, min(ENCODE_BATCH, count - start)).to(device)
            rows.append(vae.encode(x).latent_dist.mean.half().cpu())
    return torch.cat(rows)


@dataclass
class Batches:
    """Latents and text states, drawn by sample number."""

    world: World
    cached: Tensor  # [n, 4, 32, 32], scaled
    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    device: str = "cpu"

    def draw(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """([b, 4, 32, 32] latents, [b, 77, 256] text states)."""
        rng = torch.Generator().manual_seed(start)
        chosen = torch.randint(len(self.cached), (count,), generator=rng)
        texts = [captions(self.world, int(i), 1, start)[0] for i in chosen]
        kept = torch.rand(count, generator=rng) >= EMPTY
        texts = [text if keep else "" for text, keep in zip(texts, kept, strict=True)]
        ids = tokens(self.tokenizer, texts, TEXT_LENGTH).to(self.device)
        with torch.no_grad():
            states = self.encoder(ids).last_hidden_state
        return self.cached[chosen].to(self.device).float(), states


def losses(module: nn.Module, z: Tensor, states: Tensor, schedule: DDIMScheduler) -> Losses:
    """Mean squared error on v with min-SNR weights: min(snr, gamma) / (snr + 1)."""
    t = torch.randint(0, 1000, (len(z),), device=z.device)
    noise = torch.randn_like(z)
    abar = schedule.alphas_cumprod.to(z.device)[t][:, None, None, None]
    snr = abar / (1 - abar)
    noisy, v = abar.sqrt() * z + (1 - abar).sqrt() * noise, abar.sqrt() * noise - (1 - abar).sqrt() * z
    predicted = module(noisy, t, states).sample.float()
    error = F.mse_loss(predicted, v, reduction="none").mean((1, 2, 3))
    return {"v": (error * (snr.clamp(max=GAMMA) / (snr + 1)).flatten()).mean()}
