"""Weights as a difference: the rounding is bounded, equal weights cost nothing, and the order of names is kept."""

import torch

from probe.generator.difference import LEVELS, applied, difference


def states(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    base = {"conv": torch.randn(6, 4, 3, 3, generator=rng), "bias": torch.randn(6, generator=rng)}
    moved = {name: value + 0.01 * torch.randn(value.shape, generator=rng) for name, value in base.items()}
    return base, moved


def test_the_rounding_is_half_a_step_of_the_channel_at_most():
    base, moved = states()
    back = applied(difference(moved, base), base)
    for channel in range(6):
        step = (moved["conv"] - base["conv"])[channel].abs().max() / LEVELS
        assert (back["conv"] - moved["conv"])[channel].abs().max() <= step / 2 + 1e-7
    assert list(back) == list(base) and back["bias"].shape == (6,)


def test_one_byte_a_number():
    base, moved = states()
    packed = difference(moved, base)
    assert packed["conv"].dtype == torch.int8 and packed["conv:scale"].shape == (6,)


def test_equal_weights_come_back_to_the_bit():
    base, _ = states()
    back = applied(difference(base, base), base)
    assert all(torch.equal(back[name], value) for name, value in base.items())


def test_a_base_in_half_precision_is_what_is_added_to():
    base, moved = states()
    half = {name: value.half() for name, value in base.items()}
    back = applied(difference(moved, half), half)
    torch.testing.assert_close(back["conv"], moved["conv"], atol=2e-4, rtol=0)
