"""Conceptor: the coefficient of a word is a small network's reading of its embedding."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from probe.concepts.own import seeded
from probe.concepts.recipe import Recipe
from probe.concepts.reconstruction import Bench
from probe.concepts.solver import Solver, largest

HIDDEN = 100
ALIVE = 0.1  # the last bias at the start: at the usual one, every coefficient can be 0 from the first step on


class Conceptor(Solver):
    """Chefer, Lang, Geva and others, The Hidden Language of Diffusion Models, ICLR 2024.

    alpha_i = ReLU(W2 ReLU(W1 w_i + b1) + b2), L = L_rec + lambda (1 - cos(w*_N, w*)), AdamW. `absolute` takes |.| in
    place of the outer ReLU, as the released code does. The embeddings of several encoders are read side by side.
    """

    def __init__(self, bench: Bench, recipe: Recipe):
        super().__init__(bench, recipe)
        self.inputs = bench.words.joined
        self.network = network(self.inputs.shape[1], recipe.seed)
        rates = {"lr": recipe.rate, "betas": (0.9, 0.999), "weight_decay": recipe.decay}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), **rates)
        self.kept = self._alpha().detach()

    def step(self, i: int) -> float:
        alpha = self._alpha()
        self.kept = alpha.detach()  # those that this step's loss belongs to
        vectors = self.bench.words.mix(alpha)
        drawn = self.bench.draw(i, self.recipe.batch)
        rec = self.bench.loss(drawn, vectors)
        self.optimiser.zero_grad()
        (rec + self.recipe.sparsity * self._spread(alpha, vectors).to(rec.device)).backward()
        self.optimiser.step()
        return float(rec.detach())

    def _alpha(self) -> Tensor:
        raw = self.network(self.inputs)[:, 0]
        return raw.abs() if self.recipe.absolute else raw.relu()

    def _spread(self, alpha: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """1 - cos(w*_N, w*), mean over the encoders."""
        few = self.bench.words.mix(largest(alpha, self.recipe.top))
        cosines = [torch.cosine_similarity(few[name], vectors[name]).mean().cpu() for name in vectors]
        return 1 - torch.stack(cosines).mean()

    def coefficients(self) -> Tensor:
        return self.kept

    def state(self) -> dict[str, Tensor]:
        moments = self.optimiser.state_dict()["state"]
        kept = {f"adam.{i}.{name}": value for i, held in moments.items() for name, value in held.items()}
        return {"kept": self.kept, **{f"net.{k}": v for k, v in self.network.state_dict().items()}, **kept}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.kept = state["kept"]
        self.network.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("net.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name in (name for name in state if name.startswith("adam.")):
            _, i, moment = name.split(".")
            moments.setdefault(int(i), {})[moment] = state[name]
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


def network(width: int, seed: int) -> nn.Sequential:
    """width -> 100 -> 1, on the CPU: torch's usual start, drawn from a seed of its own."""
    layers = [nn.Linear(*shape, device="meta").to_empty(device="cpu") for shape in ((width, HIDDEN), (HIDDEN, 1))]
    rng = seeded(seed, 1)
    with torch.no_grad():
        for layer in layers:
            bound = layer.in_features**-0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=rng)
        layers[-1].bias.fill_(ALIVE)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])
