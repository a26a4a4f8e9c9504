"""Three solvers without a network.

They differ in what the denoiser should answer. `Closed` asks for the noise that was added, as L_rec does: one gradient
at the mean of the vocabulary says of every word how much it helps to draw the model's own pictures. `Sparse` and
`Mixture` ask for the model's answer to the concept itself: the same on average, without the chance of the single noise,
which is far larger than what two mixtures differ by. With it, `Sparse` ended farther from the concept than it began.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from probe.concepts.own import Draw
from probe.concepts.recipe import Recipe
from probe.concepts.reconstruction import Bench
from probe.concepts.solver import Solver, largest, nonnegative

STRIDE, MOMENTUM = 0.01, 0.9
SPARE = 0.01  # of the start, for all words alike: without it a word that is not near could never move
RIDGE = 0.01  # of the mean squared size of an answer
NOISIEST = 0.6  # share of the noise levels that are asked: there the prompt decides, not the picture


def even(count: int) -> Tensor:
    """[word]: every word by the same share."""
    return torch.full((count,), 1 / count)


def close(bench: Bench, top: int) -> Tensor:
    """[word]: the words nearest to the concept by their embeddings, by their cosines; even where none is near."""
    found = largest(bench.closeness, top)
    return found / found.sum() if found.sum() > 0 else even(len(found))


def slope(bench: Bench, alpha: Tensor, drawn: Draw) -> tuple[float, Tensor]:
    """The loss of a batch and its gradient to the coefficients [word]."""
    leaf = alpha.clone().requires_grad_()
    loss = bench.loss(drawn, bench.words.mix(leaf))
    (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


class Closed(Solver):
    """alpha_i = max(0, -dL_rec / d alpha_i) at the mean of the vocabulary, mean over the steps: nothing is iterated.

    To first order it says which words help, not how much of each together: words that mean the same all get their due.
    Only the noisiest levels are asked: at the others the picture shows already what it is of, and words of colour and
    brightness lower the loss most.
    """

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        self.sum = torch.zeros(len(bench.words.words))

    def step(self, i: int) -> float:
        drawn = self.bench.draw(i, self.recipe.batch, noisiest=NOISIEST)
        loss, gradient = slope(self.bench, even(len(self.sum)), drawn)
        self.sum = self.sum + gradient
        return loss

    def coefficients(self) -> Tensor:
        falls = (-self.sum).clamp(min=0)
        return falls / falls.sum().clamp(min=1e-12)

    def state(self) -> dict[str, Tensor]:
        return {"sum": self.sum}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.sum = state["sum"]


class Sparse(Solver):
    """min of |answer to the mixture - answer to the concept|^2 over the simplex of coefficients.

    Projected gradient with momentum m from the nearest words s, and each word moves in proportion to its nearness:
    d_i = s_i (m_i - s m), alpha = simplex(alpha - eta d / max |d|). Many mixtures are answered alike, and this finds
    one of near words: with steps of one length for all, words that have nothing to do with the concept grow as fast.
    The projection gives exact zeros, so nothing has to be truncated.
    """

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        near = close(bench, recipe.top)
        self.near = (1 - SPARE) * near + SPARE * even(len(near))
        self.alpha, self.momentum = self.near, torch.zeros_like(self.near)

    def step(self, i: int) -> float:
        loss, gradient = slope(self.bench, self.alpha, self.bench.aimed(self.bench.draw(i, self.recipe.batch)))
        self.momentum = MOMENTUM * self.momentum + (1 - MOMENTUM) * gradient
        way = self.near * (self.momentum - self.near @ self.momentum)
        stride = STRIDE * (1 - i / self.recipe.steps) / way.abs().max().clamp(min=1e-12)
        self.alpha = onto_simplex(self.alpha - stride * way)
        return loss

    def coefficients(self) -> Tensor:
        return self.alpha

    def state(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha, "momentum": self.momentum}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.alpha, self.momentum = state["alpha"], state["momentum"]


class Mixture(Solver):
    """The words' own answers that add up to that to the concept: alpha >= 0, |sum alpha_i eps_i - eps|^2 + r |alpha|^2.

    What a model answers at high noise is a mean over what the prompt allows, so the answer to a concept is close to
    the mean of the answers to what it is made of, each by its share. Every step costs a pass for each word.
    Words of one meaning have nearly the same answers, and bare least squares gives everything to one of them: the
    ridge shares it out, so that all that the concept is made of is named.
    """

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        count = len(bench.words.words)
        self.gram, self.side = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)

    def step(self, i: int) -> float:
        drawn, tables = self.bench.aimed(self.bench.draw(i, 1, noisiest=NOISIEST)), self.bench.words.tables
        count, size = len(self.bench.words.words), self.recipe.batch
        with torch.no_grad():
            blocks = [
                self.bench.answer(_repeated(drawn, len(part)), {name: t[part] for name, t in tables.items()})
                for part in torch.arange(count).split(size)
            ]
        answers = torch.cat(blocks).flatten(1).double().cpu()  # [word, values]
        aim = drawn.target.flatten().double().cpu()
        self.gram += answers @ answers.T
        self.side += answers @ aim
        return float((answers - aim).square().mean(1).min())

    def coefficients(self) -> Tensor:
        return nonnegative(self.gram, self.side, ridge=RIDGE)

    def state(self) -> dict[str, Tensor]:
        return {"gram": self.gram, "side": self.side}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.gram, self.side = state["gram"], state["side"]


def _repeated(drawn: Draw, count: int) -> Draw:
    x, target = (each.expand(count, *each.shape[1:]) for each in (drawn.x, drawn.target))
    return Draw(x, drawn.told.expand(count), target)


def onto_simplex(values: Tensor) -> Tensor:
    """The nearest point whose entries are 0 or more and add up to 1 (Duchi et al., ICML 2008)."""
    ordered = values.sort(descending=True).values
    over = ordered.cumsum(0) - 1
    counts = torch.arange(1, len(values) + 1, device=values.device)
    last = int((ordered - over / counts > 0).sum())
    return (values - over[last - 1] / last).clamp(min=0)
