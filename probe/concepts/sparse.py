"""Three solvers without a network, each with a clearer aim than the noise.

Conceptor learns from the noise that was added; its expectation is what the model itself answers to the concept's own
prompt, so that answer is the aim here: the same minimum, and a gradient without the noise's variance.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from probe.concepts.bench import Bench
from probe.concepts.own import Draw, seeded
from probe.concepts.recipe import Recipe
from probe.concepts.solver import Solver, nonnegative
from probe.concepts.vocabulary import nearest

STRIDE, MOMENTUM = 0.1, 0.9
RIDGE = 1e-2
NOISIEST = 0.6  # share of the noise levels at which a mixture is read: there the prompt decides, not the picture


class Sparse(Solver):
    """min over the simplex of |eps(x, sum alpha_i w_i) - eps(x, concept)|^2, by projected gradient with momentum.

    The projection gives exact zeros, so nothing has to be truncated. It starts from the words that are close to the
    concept's own embedding.
    """

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        close = torch.from_numpy(nearest(bench.words, bench.origin)).float()
        self.alpha = onto_simplex(close / close.std(correction=0).clamp(min=1e-6) / len(close) ** 0.5)
        self.momentum = torch.zeros_like(self.alpha)

    def step(self, i: int) -> float:
        alpha = self.alpha.clone().requires_grad_()
        drawn = self.bench.draw(i, self.recipe.batch)
        with torch.no_grad():
            aim = self.bench.answer(drawn, None)
        loss = (self.bench.answer(drawn, self.bench.words.mix(alpha)) - aim).square().mean()
        (gradient,) = torch.autograd.grad(loss, alpha)
        self.momentum = MOMENTUM * self.momentum + (1 - MOMENTUM) * gradient
        stride = STRIDE * (1 - i / self.recipe.steps) / self.momentum.abs().max().clamp(min=1e-12)
        self.alpha = onto_simplex(self.alpha - stride * self.momentum)
        return float(loss.detach())

    def coefficients(self) -> Tensor:
        return self.alpha

    def state(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha, "momentum": self.momentum}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.alpha, self.momentum = state["alpha"], state["momentum"]


class Normal(Solver):
    """A solver that adds up normal equations G [word, word] and b [word], and solves them once, with alpha >= 0."""

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        count = len(bench.words.words)
        self.gram, self.side = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)

    def add(self, rows: Tensor, aims: Tensor) -> None:
        """Equations rows [n, word] @ alpha = aims [n]."""
        rows, aims = rows.double().cpu(), aims.double().cpu()
        self.gram += rows.T @ rows
        self.side += rows.T @ aims

    def coefficients(self) -> Tensor:
        return nonnegative(self.gram, self.side)

    def state(self) -> dict[str, Tensor]:
        return {"gram": self.gram, "side": self.side}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.gram, self.side = state["gram"], state["side"]


class Closed(Normal):
    """Words that add up to the concept's own embedding, in the metric that the model feels.

    At w_0, the mean embedding of the concept's own tokens, L(w) = |J (w - w_0) + r|^2 to first order, with J the
    Jacobian of the answer and r what w_0 leaves over. J'J is sketched by gradients of random projections u of the
    answer: each gives one equation (u'J) w = (u'J) w_0 - u'r. A ridge of RIDGE x the sketch's mean keeps w near w_0.
    """

    def step(self, i: int) -> float:
        bench, size = self.bench, self.recipe.batch
        drawn = bench.draw(i, size)
        vectors = {name: v.repeat(size, 1).requires_grad_() for name, v in bench.origin.items()}
        answer = bench.answer(drawn, vectors)
        with torch.no_grad():
            left = answer - bench.answer(drawn, None)
        u = torch.randn(answer.shape, generator=seeded(self.recipe.seed, 2, i)).to(answer)
        gradients = torch.autograd.grad((u * answer).sum(), list(vectors.values()))
        pairs = list(zip(gradients, bench.words.tables.items(), strict=True))
        rows = sum((g @ table.T for g, (_, table) in pairs), torch.zeros(()).to(answer))  # [b, word]
        at_origin = sum(((g * bench.origin[name]).sum(1) for g, (name, _) in pairs), torch.zeros(()).to(answer))
        self.add(rows, at_origin - (u * left).flatten(1).sum(1))
        return float(left.square().mean())

    def coefficients(self) -> Tensor:
        table, origin = self.bench.words.joined.double(), torch.cat([v.cpu() for v in self.bench.origin.values()], 1)
        weight = RIDGE * self.gram.diagonal().mean() / table.square().sum(1).mean().clamp(min=1e-12)
        return nonnegative(self.gram + weight * table @ table.T, self.side + weight * table @ origin.double()[0])


class Mixture(Normal):
    """Which words' own answers add up to the answer to the concept: min over alpha >= 0 of |sum alpha_i eps_i - eps|^2.

    What a model answers at high noise is a mean over what the prompt allows, so the answer to a concept is close to
    the mean of the answers to what it is made of, each by its share. Every step costs a pass for each word.
    """

    def step(self, i: int) -> float:
        drawn, tables = self.bench.draw(i, 1, noisiest=NOISIEST), self.bench.words.tables
        count, size = len(self.bench.words.words), self.recipe.batch
        with torch.no_grad():
            aim = self.bench.answer(drawn, None).flatten()
            blocks = [
                self.bench.answer(_repeated(drawn, len(part)), {name: t[part] for name, t in tables.items()})
                for part in torch.arange(count).split(size)
            ]
        answers = torch.cat(blocks).flatten(1)  # [word, values]
        self.add(answers.T, aim)
        return float((answers - aim).square().mean(1).min())


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
