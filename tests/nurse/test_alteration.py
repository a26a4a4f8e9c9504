"""How latents are moved: how often, when not, how far, and what is left of it in tensors that others hold."""

from typing import Any

import pytest
import torch

import probe
from probe.nurse import AttendAndExcite, Conform, InitNO, LayoutGuidance, Separate
from tests import pipelines

PROMPT = "a cat and a balloon"
CALL = {"height": 64, "width": 96, "num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "latent"}
LEFT = {"cat": (0.0, 0.0, 0.5, 1.0)}


def nursed(method: Any, family: str = "sd1", **more: Any) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """(what the trace says of the nursing, the latents at the end)."""
    pipe = pipelines.load(family)
    with probe.record(pipe, interventions=[method]) as recording:
        found = pipe(PROMPT, **CALL | more, generator=torch.Generator().manual_seed(0))[0]
    return recording.trace.extra["nursing"], found


def test_layout_guidance_moves_nothing_that_is_good_enough():
    entries, latents = nursed(LayoutGuidance(boxes=LEFT, enough=1.0))
    assert [(len(e["losses"]), e["shift"]) for e in entries] == [(1, 0.0)] * 2
    plain = pipelines.load("sd1")(PROMPT, **CALL, generator=torch.Generator().manual_seed(0))[0]
    assert torch.equal(latents, plain)


def test_layout_guidance_stops_as_soon_as_it_is_good_enough():
    first = nursed(LayoutGuidance(boxes=LEFT, enough=0.0, max_steps=1))[0][0]
    assert len(first["losses"]) == 5 and first["losses"][1] < first["losses"][0]
    between = sum(first["losses"][:2]) / 2
    entry = nursed(LayoutGuidance(boxes=LEFT, enough=between, max_steps=1))[0][0]
    assert entry["losses"] == pytest.approx(first["losses"][:2])


def test_no_refinement_is_none():
    low = {"thresholds": {0: 1.0}, "max_steps": 1}
    assert len(nursed(AttendAndExcite(subjects=("cat",), max_refinements=0, **low))[0][0]["losses"]) == 1
    assert len(nursed(AttendAndExcite(subjects=("cat",), max_refinements=1, **low))[0][0]["losses"]) == 2


def test_where_no_gradient_leads_further_no_pass_is_run():
    """CONFORM has no pair of maps at the first step where no word has a companion."""
    entry = nursed(Conform(groups=(("cat",), ("balloon",)), max_steps=1))[0][0]
    assert (entry["losses"], entry["shift"]) == ([0.0], 0.0)


def test_the_search_for_a_noise_goes_as_far_as_its_strength():
    search, never = {"rounds": 1, "iterations": 3, "last": 1}, {"max_steps": 0, "thresholds": {0: 0.0}}
    ends = {}
    for strength in (0.0, 1e-6, 0.5, 1.0):
        method = InitNO(subjects=("cat", "balloon"), search=search, strength=strength, conflict=9, **never)
        ends[strength] = _start(method)
    whole = ends[1.0] - ends[0.0]
    assert float(whole.abs().max()) > 0.01
    assert torch.allclose(ends[1e-6], ends[0.0], atol=2e-3)  # float16
    assert torch.allclose(ends[0.5] - ends[0.0], whole / 2, atol=4e-3)


def _start(method: Any) -> torch.Tensor:
    """The latents that the first step begins with."""
    pipe = pipelines.load("sd1")
    with probe.record(pipe, words=[], interventions=[method]) as recording:
        pipe(PROMPT, **CALL, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(recording.trace.node("latents")["latents"].isel(time=0).values).float()


@pytest.mark.parametrize("family", ["sd1", "sd3", "flux1"])
def test_tensors_that_others_hold_get_their_own_values_back(family: str):
    """Some pipelines step from the very latents that they were given, and a callback may keep those of every step."""
    pipe = pipelines.load(family)
    call = CALL | {"guidance_scale": 3.5, "num_inference_steps": 3}
    shape = _start_shape(pipe, call)
    given = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    mine, kept, copies = given.clone(), [], []

    def keep(pipe: Any, step: int, timestep: Any, held: dict[str, Any]) -> dict[str, Any]:
        kept.append(held["latents"])
        copies.append(held["latents"].clone())
        return held

    method = AttendAndExcite(subjects=("cat", "balloon"), thresholds={})
    with probe.record(pipe, words=[], interventions=[method]) as recording:
        pipe(PROMPT, **call, latents=mine, callback_on_step_end=keep)
    assert all(entry["shift"] > 0 for entry in recording.trace.extra["nursing"])
    assert torch.equal(mine, given)
    assert all(map(torch.equal, kept, copies))


def _start_shape(pipe: Any, call: dict[str, Any]) -> torch.Size:
    """The shape of the latents that a pipeline takes."""
    return pipe(PROMPT, **call)[0].shape


def test_a_tensor_is_given_back_after_an_error_too():
    pipe = pipelines.load("sd3")
    given = torch.randn(_start_shape(pipe, CALL), generator=torch.Generator().manual_seed(1))
    mine = given.clone()

    def fail(pipe: Any, step: int, timestep: Any, held: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    method = AttendAndExcite(subjects=("cat", "balloon"), thresholds={})
    with pytest.raises(KeyboardInterrupt), probe.record(pipe, words=[], interventions=[method]):
        pipe(PROMPT, **CALL, latents=mine, callback_on_step_end=fail)
    assert torch.equal(mine, given)


def test_methods_name_themselves():
    with pytest.raises(probe.ProbeError, match="^Separate tells groups of words apart"):
        Separate(groups=(("cat",),)).check()
