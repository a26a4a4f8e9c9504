"""Schedulers over an existing picture: up and down again is the identity in the limit, levels are the scheduler's."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor

from probe.attach.image.schedules import Noised, exchanged, plain, upward
from probe.attach.model.prediction import flows, level
from probe.errors import BadInput

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "epsilon": lambda: DDIMScheduler(**BETAS, steps_offset=1, set_alpha_to_one=False),
    "v": lambda: DDIMScheduler(**BETAS, steps_offset=1, prediction_type="v_prediction"),
    "PNDM": lambda: PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1),
    "Euler": lambda: EulerDiscreteScheduler(**BETAS, timestep_spacing="linspace"),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "moved flow": lambda: FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
}
X0 = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(1, 1, 4, 6)


def model(scheduler: Any, x: Tensor, t: Any) -> Tensor:
    """What an ideal denoiser says where the data are drawn from N(0, 1/4)."""
    noise = level(scheduler, t)
    if flows(scheduler):
        sigma = float(t) / 1000
        alpha = 1 - sigma
        return (sigma - alpha / 4) * x / (alpha**2 / 4 + sigma**2)
    eps = noise.sigma * x / (noise.alpha**2 / 4 + noise.sigma**2)
    x0 = noise.alpha * x / 4 / (noise.alpha**2 / 4 + noise.sigma**2)
    return eps if noise.kind == "epsilon" else noise.alpha * eps - noise.sigma * x0


def loop(pipe: Any, x: Tensor, steps: int) -> Tensor:
    """A sampling loop, as small as can be."""
    moved = {"mu": 0.8} if pipe.scheduler.config.get("use_dynamic_shifting") else {}
    pipe.scheduler.set_timesteps(steps, **moved)
    for t in pipe.scheduler.timesteps:
        x = pipe.scheduler.step(model(pipe.scheduler, x, t), t, x).prev_sample
    return x


@pytest.mark.parametrize("name", SCHEDULERS)
def test_up_and_down_again_is_the_identity_in_the_limit(name: str):
    pipe = SimpleNamespace(scheduler=SCHEDULERS[name]())
    own, errors = pipe.scheduler, []
    for steps in (25, 200):
        with upward(pipe):
            noise = loop(pipe, X0, steps)
        with exchanged(pipe, plain(pipe.scheduler)):
            errors.append(float((loop(pipe, noise, steps) - X0).abs().max()))
    assert pipe.scheduler is own
    assert errors[1] < errors[0] / 4 and errors[1] < 0.05


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_levels_of_noise_are_the_schedulers(name: str):
    pipe = SimpleNamespace(scheduler=SCHEDULERS[name]())
    original = pipe.scheduler
    eps = torch.ones_like(X0)
    noised = Noised(plain(original), X0, eps, [900, 500, 20])
    with noised.shown(pipe):
        moved = {"mu": 0.8} if original.config.get("use_dynamic_shifting") else {}
        pipe.scheduler.set_timesteps(3, **moved)
        assert pipe.scheduler.timesteps.tolist() == [900, 500, 20]
        x, seen = noised.at(900), []
        for t in pipe.scheduler.timesteps:
            seen.append(x)
            x = pipe.scheduler.step(torch.zeros_like(x), t, x, return_dict=len(seen) == 1)
            x = x[0] if isinstance(x, tuple) else x.prev_sample
    assert pipe.scheduler is original and torch.equal(x, X0)
    for t, found in zip([900, 500, 20], seen, strict=True):
        share = t / 1000 if flows(original) else 1 - float(original.alphas_cumprod[t])
        expected = (1 - share) * X0 + share * eps if flows(original) else (1 - share) ** 0.5 * X0 + share**0.5 * eps
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_scheduler_comes_back_after_an_error():
    pipe = SimpleNamespace(scheduler=SCHEDULERS["flow"]())
    own = pipe.scheduler
    with pytest.raises(KeyError), upward(pipe):
        raise KeyError
    assert pipe.scheduler is own and "set_timesteps" not in vars(own)


def test_what_ddim_cannot_lead_is_refused():
    scheduler = EDMEulerScheduler()
    with pytest.raises(BadInput, match=r"leads a pipeline by DDIM, and EDMEulerScheduler preconditions its denoiser"):
        plain(scheduler)
    with pytest.raises(BadInput, match="EDMEulerScheduler"), upward(SimpleNamespace(scheduler=scheduler)):
        pass
