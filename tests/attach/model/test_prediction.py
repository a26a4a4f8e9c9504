"""Noise levels: one set of formulas for every scheduler, checked against what the schedulers themselves do."""

import diffusers
import pytest
import torch

from probe.attach.model.prediction import Level, level, noise_share

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def test_scaled_linear_schedule():
    scheduler = diffusers.DDIMScheduler(**SCHEDULE)
    expected = {0: 0.99915, 250: 0.673793, 500: 0.276333, 750: 0.0561698, 999: 0.0046601}
    for t, abar in expected.items():
        assert level(scheduler, t).alpha ** 2 == pytest.approx(abar, rel=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
def test_both_readings_recover_what_was_mixed(kind):
    rng = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(2, 4, 8, 8, generator=rng) for _ in range(2))
    alpha, sigma = (0.4, 0.6) if kind == "flow" else (0.6, 0.8)
    outputs = {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0, "flow": eps - x0}
    noise = Level(kind, alpha, sigma, scale=3.0)
    sample = (alpha * x0 + sigma * eps) * 3.0
    torch.testing.assert_close(noise.x0(outputs[kind], sample), x0, atol=1e-5, rtol=0)
    torch.testing.assert_close(noise.epsilon(outputs[kind], sample), eps, atol=1e-5, rtol=0)
    torch.testing.assert_close(noise.output(x0, sample), outputs[kind], atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_equals_the_schedulers_own_prediction_of_the_picture(name, prediction):
    scheduler = getattr(diffusers, name)(**SCHEDULE, prediction_type=prediction)
    scheduler.set_timesteps(10)
    rng = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 4, 8, 8, generator=rng) * scheduler.init_noise_sigma
    for t in scheduler.timesteps[:4]:
        output = torch.randn(sample.shape, generator=rng)
        scheduler.scale_model_input(sample, t)
        ours = level(scheduler, t).x0(output, sample)
        step = scheduler.step(output, t, sample)
        theirs = step.pred_original_sample
        if getattr(scheduler.config, "clip_sample", False):
            ours = ours.clamp(-1, 1)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        sample = step.prev_sample


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_preconditioned_predictions_are_the_schedulers_own(name, prediction):
    scheduler = getattr(diffusers, name)(prediction_type=prediction)
    scheduler.set_timesteps(6)
    rng = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 4, 8, 8, generator=rng) * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        output = torch.randn(sample.shape, generator=rng)
        scheduler.scale_model_input(sample, t)
        noise, sigma = level(scheduler, t), float(scheduler.sigmas[i])
        x0 = scheduler.precondition_outputs(sample, output, sigma)
        torch.testing.assert_close(noise.x0(output, sample), x0, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(noise.epsilon(output, sample), (sample - x0) / sigma, atol=1e-3, rtol=1e-3)
        sample = scheduler.step(output, t, sample).prev_sample


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with numpy
def test_between_two_steps_a_scheduler_of_second_order_has_levels_of_their_own():
    scheduler = diffusers.KDPM2DiscreteScheduler(**SCHEDULE)
    scheduler.set_timesteps(4)
    rng = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 4, 8, 8, generator=rng) * scheduler.init_noise_sigma
    for t in scheduler.timesteps[:5]:
        output = torch.randn(sample.shape, generator=rng)
        scheduler.scale_model_input(sample, t)
        ours = level(scheduler, t).x0(output, sample)
        step = scheduler.step(output, t, sample)
        torch.testing.assert_close(ours, step.pred_original_sample, atol=1e-4, rtol=1e-4)
        sample = step.prev_sample


def test_flow_matching_reads_its_own_sigmas():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(8)
    for i, t in enumerate(scheduler.timesteps[:3]):
        noise = level(scheduler, t)
        assert noise.kind == "flow"
        assert noise.sigma == pytest.approx(float(scheduler.sigmas[i]), abs=1e-6)
        assert noise.alpha == pytest.approx(1 - noise.sigma)


def test_a_flow_scheduler_with_levels_above_one_steps_noise():
    """As Cosmos 2's, whose x is x_0 + sigma * eps: what it is given is eps, and a step goes along it."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4, sigmas=[80.0, 20.0, 4.0, 0.5])
    x0, eps = torch.randn(2, 1, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    x = x0 + 80 * eps
    for t, sigma in zip(scheduler.timesteps, (80.0, 20.0, 4.0, 0.5), strict=True):
        noise = level(scheduler, t)
        assert noise.sigma / noise.alpha == pytest.approx(sigma)
        torch.testing.assert_close(noise.epsilon(eps, x), eps)
        torch.testing.assert_close(noise.x0(eps, x), x0, atol=1e-4, rtol=1e-4)
        x = scheduler.step(eps, t, x).prev_sample
    torch.testing.assert_close(x, x0, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_the_share_of_noise_is_the_schedules_own(name):
    scheduler = getattr(diffusers, name)(**SCHEDULE, timestep_spacing="leading")
    scheduler.set_timesteps(5)
    for i, t in enumerate(scheduler.timesteps):
        assert noise_share(scheduler, i) == pytest.approx(1 - float(scheduler.alphas_cumprod[int(t)]), rel=1e-4)
    assert noise_share(scheduler, 5) == 0.0


def test_the_share_of_noise_of_a_flow():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    sigma = float(scheduler.sigmas[2])
    assert noise_share(scheduler, 2) == pytest.approx(sigma**2 / (sigma**2 + (1 - sigma) ** 2))
    assert noise_share(scheduler, 0) == pytest.approx(1.0) and noise_share(scheduler, 4) == 0.0
