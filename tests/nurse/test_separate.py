"""Separate: its contrast by hand, when it stops, and that it moves what CONFORM cannot."""

import math

import pytest
import torch

import probe
from probe.intervention import Maps, Score
from probe.nurse import Conform, Separate
from probe.nurse.binding import contrast
from tests import pipelines

GROUPS = (("cat",), ("balloon",))
CALL = {"height": 64, "width": 96, "num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "latent"}


def falling(*losses: float) -> list[Score]:
    return [Score(loss) for loss in losses]


def test_a_map_is_a_positive_pair_with_itself():
    """Two maps at cosine c: -log(e^(1/tau) / (e^(1/tau) + e^(c/tau))) = log(1 + e^((c - 1) / tau))."""
    rows, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 1])
    assert float(contrast(rows, labels, 0.5, itself=True)) == pytest.approx(math.log1p(math.exp((0.6 - 1) / 0.5)))
    assert float(contrast(rows, labels, 0.5)) == 0  # without: no pair


def test_it_refines_at_first_as_long_as_a_pass_helps():
    method = Separate(groups=GROUPS, gain=0.1)
    assert not method.met(0, falling(1.0)) and not method.met(0, falling(1.0, 0.5, 0.4))
    assert method.met(0, falling(1.0, 0.5, 0.46)) and method.met(0, falling(0.5, 0.6))
    assert method.met(1, falling(1.0))


def test_without_attributes_it_has_a_gradient_at_the_first_step_and_conform_none():
    A = torch.rand(16, 16, 12, generator=torch.Generator().manual_seed(0)).softmax(-1).requires_grad_()
    maps = Maps(A, {"cat": (2,), "balloon": (5,)}, 8)
    for method, moves in ((Separate(groups=GROUPS), True), (Conform(groups=GROUPS), False)):
        (gradient,) = torch.autograd.grad(method.score(maps).loss, A)
        assert bool(gradient.abs().sum() > 0) == moves


def test_on_a_pipeline_the_maps_come_apart_and_it_stops_by_itself():
    pipe = pipelines.load("sd1")
    with probe.record(pipe, words=["*"], interventions=[Separate(groups=GROUPS, max_steps=2)]) as recording:
        pipe("a cat and a balloon", **CALL, generator=torch.Generator().manual_seed(3))
    log = [entry for entry in recording.trace.extra["nursing"] if entry["step"] == 0]
    losses = log[0]["losses"]
    assert len(losses) >= 2 and losses[-1] < losses[0]
    assert {entry["step"] for entry in recording.trace.extra["nursing"]} == {0, 1}
