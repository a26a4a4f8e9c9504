"""What a decomposition has to beat: words found without asking the denoiser, and a prompt inverted word by word.

Each is a solver like the others, so all come out as concepts and stand in one table.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, PCA
from torch import Tensor

from probe.concepts.own import seeded
from probe.concepts.recipe import Recipe
from probe.concepts.reconstruction import Bench
from probe.concepts.solver import Solver, Way

PARTS = 16  # clusters or components
PLACES = 5  # words of an inverted prompt
STRIDE = 0.1  # of a step, in lengths of an embedding


class Guess(Solver):
    """A solver that needs one look at the embeddings."""

    def step(self, i: int) -> float:
        return float("nan")

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        pass


class Nearest(Guess):
    """The words whose embeddings are closest to the concept's own; the coefficient is the cosine."""

    def coefficients(self) -> Tensor:
        return self.bench.closeness


class Factors(Guess):
    """The concept's own embedding as a non-negative sum of directions found in the vocabulary, each named by a word.

    `kind`: "kmeans" (centres), "nmf" (components; embeddings are lifted to 0 or more) or "pca" (components, both ways).
    The name of a direction is the word whose embedding has the largest cosine with it.
    """

    kind = "kmeans"

    def coefficients(self) -> Tensor:
        table = self.bench.words.joined.double().numpy()
        origin = torch.cat([each.cpu() for each in self.bench.origin.values()], 1).double().numpy()[0]
        lift = -min(table.min(), origin.min()) if self.kind == "nmf" else 0.0
        directions = self._directions(table + lift)
        code, _ = nnls(directions.T, origin + lift)
        out = np.zeros(len(table))
        np.add.at(out, _closest(directions, table + lift), code)
        return torch.from_numpy(out).float()

    def _directions(self, table: np.ndarray) -> np.ndarray:
        """[direction, channel]."""
        parts, seed = min(PARTS, *table.shape), self.recipe.seed
        if self.kind == "kmeans":
            return _fitted(KMeans, table, n_clusters=parts, n_init=4, random_state=seed).cluster_centers_
        if self.kind == "nmf":
            more = {"init": "nndsvda", "max_iter": 2000, "tol": 1e-3}
            return _fitted(NMF, table, n_components=parts, random_state=seed, **more).components_
        found = _fitted(PCA, table, n_components=parts, random_state=seed).components_
        return np.concatenate([found, -found])


class Nmf(Factors):
    """Non-negative matrix factorisation of the vocabulary."""

    kind = "nmf"


class Pca(Factors):
    """Principal components of the vocabulary."""

    kind = "pca"


class Pez(Solver):
    """Prompt inversion after Wen et al., Hard Prompts Made Easy, NeurIPS 2023, for the words of one pseudo-token.

    PLACES free vectors; each pass uses the word nearest to each, and its gradient moves the free vector. The words'
    embeddings are added up, as in a decomposition; the paper writes them side by side.
    """

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        start = torch.randint(len(bench.words.words), (PLACES,), generator=seeded(recipe.seed, 3))
        self.free = bench.words.joined[start].clone()

    def step(self, i: int) -> float:
        words = self.bench.words
        used = words.joined[self._places()].requires_grad_()
        loss = self.bench.loss(self.bench.draw(i, self.recipe.batch), words.parted(used.sum(0, keepdim=True)))
        (moved,) = torch.autograd.grad(loss, used)
        scale = self.free.norm(dim=1).mean() / moved.norm(dim=1).mean().clamp(min=1e-12)
        self.free = self.free - STRIDE * scale * moved
        return float(loss.detach())

    def coefficients(self) -> Tensor:
        return torch.bincount(self._places(), minlength=len(self.bench.words.words)) / PLACES

    def _places(self) -> Tensor:
        """[place]: the word nearest to each free vector."""
        return torch.from_numpy(_closest(self.free.numpy(), self.bench.words.joined.numpy()))

    def state(self) -> dict[str, Tensor]:
        return {"free": self.free}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.free = state["free"]


def _fitted(make: Any, table: np.ndarray, **settings: Any) -> Any:
    return make(**settings).fit(table)


def _closest(directions: np.ndarray, table: np.ndarray) -> np.ndarray:
    """[direction]: the row with the largest cosine."""
    lengths = np.linalg.norm(table, axis=1)
    return (directions @ (table / np.maximum(lengths, 1e-12)[:, None]).T).argmax(1)


_ONE = Recipe(pictures=1, steps=1)
BASELINES: dict[str, Way] = {
    "nearest": Way(Nearest, _ONE, "the nearest words by embedding"),
    "kmeans": Way(Factors, _ONE, "k-means over the vocabulary"),
    "nmf": Way(Nmf, _ONE, "non-negative matrix factorisation of the vocabulary"),
    "pca": Way(Pca, _ONE, "principal components of the vocabulary"),
    "pez": Way(Pez, Recipe(pictures=24, steps=80), "prompt inversion, in the manner of PEZ"),
}
