"""What a solver is, and which there are.

To add one, inherit from `Solver`, and enter it with the recipe that suits it:

    SOLVERS["mine"] = Way(Mine, Recipe(steps=40), "what it does, in a line")
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from probe.concepts.recipe import Recipe
from probe.concepts.reconstruction import Bench


class Solver(ABC):
    """Finds the coefficients step by step. All that it knows is in `state`, so that it can be stopped and resumed."""

    def __init__(self, bench: Bench, recipe: Recipe):
        self.bench, self.recipe = bench, recipe

    @abstractmethod
    def step(self, i: int) -> float:
        """Step i from 0; returns its loss. Chance depends on i and on the recipe's seed alone."""

    @abstractmethod
    def coefficients(self) -> Tensor:
        """[word], 0 or more, as they are now; without a graph, on the CPU."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that `restore` needs, as tensors."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


@dataclass(frozen=True)
class Way:
    """A solver with its own recipe."""

    make: Callable[[Bench, Recipe], Solver]
    recipe: Recipe
    summary: str


def largest(alpha: Tensor, top: int) -> Tensor:
    """[word]: the `top` largest coefficients as they are, the others 0."""
    return alpha * torch.zeros_like(alpha).index_fill(0, alpha.topk(min(top, len(alpha))).indices, 1.0)


def nonnegative(gram: Tensor, side: Tensor, *, ridge: float = 0.0) -> Tensor:
    """[word]: the alpha >= 0 with the least alpha' G alpha - 2 side' alpha + r |alpha|^2, G symmetric [word, word].

    `ridge`: r as a share of the mean of G's diagonal. Lawson and Hanson's method on the root of G + r:
    |root alpha - b|^2 with root' root = G + r and root' b = side.
    """
    own = gram.double().numpy()
    values, vectors = np.linalg.eigh(own + ridge * own.diagonal().mean() * np.eye(len(own)))
    kept = values > values.max() * 1e-10
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    aim = (vectors[:, kept].T @ side.double().numpy()) / np.sqrt(values[kept])
    return torch.from_numpy(nnls(root, aim, maxiter=30 * len(gram))[0]).float()
