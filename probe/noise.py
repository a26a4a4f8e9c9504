"""How a better noise is looked for, as data. What looks for it lives in `probe.attach.change.noise`."""

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt


class Search(BaseModel):
    """How a better noise is looked for before the first step: z = z0 * exp(logvar / 2) + mu, by Adam.

    Up to `rounds` noises get `iterations` updates each; if none is good, the best of them gets `last` more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: NonNegativeInt = 5
    iterations: PositiveInt = 10
    last: NonNegativeInt = 50
    rate: NonNegativeFloat = 1e-2
    eps: NonNegativeFloat = 1e-3
    kl: NonNegativeFloat = 1e-3  # most of KL(N(mu, exp(logvar)) || N(0, 1)), a mean; pulled back to after each update
    seed: NonNegativeInt = 0  # of the second noise and those after it, with the first one's own values
