"""Does Muon pay on a small budget? The autoencoder's first steps with Muon and with AdamW, from the same start.

Both see the same crops; the table shows the squared error (mean over 25 steps) and the time that it took.
"""

import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from probe.generator import parts
from probe.generator.train import autoencoder
from probe.generator.train.optimiser import MatrixOptimiser
from probe.generator.train.precision import autocast
from probe.generator.world import World

STEPS, BATCH, WARMUP, WINDOW = 150, 16, 20, 25
RATES = {"Muon": 2e-3, "AdamW": 1.5e-3}
BETAS = (0.9, 0.99)


class Plain:
    """AdamW on everything, with the same one method."""

    def __init__(self, module: torch.nn.Module):
        self.inner = torch.optim.AdamW(module.parameters(), betas=BETAS, weight_decay=0.0, fused=True)

    def step(self, lr: float) -> None:
        for group in self.inner.param_groups:
            group["lr"] = lr
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)


def run(name: str) -> list[tuple[float, float]]:
    """(seconds, squared error) of every step."""
    torch.manual_seed(0)
    module, world, rows = parts.autoencoder(), World(0), []
    optimiser = MatrixOptimiser(module, 0.0, BETAS) if name == "Muon" else Plain(module)
    began = time.monotonic()
    for step in range(STEPS):
        with autocast("cpu"):
            losses = autoencoder.losses(module, autoencoder.crops(world, step * BATCH, BATCH))
            total = torch.stack(list(losses.values())).sum()
        total.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step(RATES[name] * min(1.0, (step + 1) / WARMUP))
        rows.append((time.monotonic() - began, float(losses["mse"].detach())))
    return rows


def main() -> None:
    table = Table("steps", *(f"{name}: {unit}" for name in RATES for unit in ("MSE", "s")))
    runs = {name: run(name) for name in RATES}
    for end in range(WINDOW, STEPS + 1, WINDOW):
        cells = []
        for rows in runs.values():
            window = [error for _, error in rows[end - WINDOW : end]]
            cells += [f"{sum(window) / WINDOW:.4f}", f"{rows[end - 1][0]:.0f}"]
        table.add_row(str(end), *cells)
    Console(file=sys.stdout).print(table)
    Console(file=sys.stdout).print(f"source: {Path(__file__).name}, batch {BATCH}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
