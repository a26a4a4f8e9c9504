"""The search for a better noise before the first step (InitNO, Guo et al. 2024; after the released code)."""

from collections.abc import Callable
from zlib import crc32

import torch
from torch import Tensor

from probe.intervention import LatentIntervention, Score, Search

PULLS = 1000  # updates towards N(0, 1) after which it is let be

Look = Callable[[Tensor], Score]


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) = 1/2 (mu^2 + exp(logvar) - 1 - logvar), a mean over elements."""
    return (mu**2 + logvar.exp() - 1 - logvar).mean() / 2


def better_noise(look: Look, noise: Tensor, intervention: LatentIntervention) -> tuple[Tensor, list[float]]:
    """(a noise whose maps are good, or the best that was found; all losses). `noise` is the first one that is tried.

    Those after it are drawn from the seed and from the first one, so that no two pictures are given the same.
    """
    how = intervention.search or Search()
    rng = torch.Generator().manual_seed(how.seed + crc32(noise.cpu().numpy().tobytes()))
    losses, best, least = list[float](), noise, torch.inf
    for _ in range(how.rounds):
        found, some, good = _descend(look, noise, intervention, how, how.iterations)
        losses += some
        if good:
            return found, losses
        if some[-1] < least:
            best, least = noise, some[-1]
        noise = torch.randn(noise.shape, generator=rng).to(noise)
    found, some, _ = _descend(look, best, intervention, how, how.last)
    return found, losses + some


def _descend(
    look: Look, noise: Tensor, intervention: LatentIntervention, how: Search, iterations: int
) -> tuple[Tensor, list[float], bool]:
    """(noise * exp(logvar / 2) + mu, the loss before each update, whether it is good)."""
    mu, logvar = (torch.zeros_like(noise, requires_grad=True) for _ in range(2))
    adam = torch.optim.Adam([mu, logvar], lr=how.rate, eps=how.eps)
    losses, z = list[float](), noise
    for _ in range(iterations):
        z = noise * (logvar / 2).exp() + mu
        score = look(z)
        losses.append(score.value)
        if intervention.good(score) or not torch.isfinite(torch.tensor(score.value)):
            return z.detach(), losses, intervention.good(score)
        _step(adam, score.loss)
        for _ in range(PULLS):
            if float(kl(mu, logvar).detach()) <= how.kl:
                break
            _step(adam, kl(mu, logvar))
    return (noise * (logvar / 2).exp() + mu).detach(), losses, False


def _step(adam: torch.optim.Adam, loss: Tensor) -> None:
    if loss.requires_grad:
        adam.zero_grad()
        loss.backward()
        adam.step()
