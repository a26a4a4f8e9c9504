"""The doctor: what it finds, and that it says what is wrong."""

import math
from dataclasses import replace
from importlib import metadata

import pytest
import torch

import probe
from probe import checkup
from probe.attach.model.families import FAMILIES
from probe.attach.waist import Call, fused
from probe.checkup import kernel
from probe.errors import NotAPipeline


@pytest.fixture(scope="module")
def found() -> checkup.Checkup:
    return probe.doctor()


def test_the_findings_are_those_of_this_machine(found: checkup.Checkup):
    assert found.versions["torch"] == torch.__version__
    assert found.versions["diffusers"] == metadata.version("diffusers")
    assert 0 < found.memory[0] <= found.memory[1]
    assert found.extras["dev"]
    assert found.trial is None
    assert found.ok


def test_it_says_plainly_how_families_were_verified(found: checkup.Checkup):
    said = str(found)
    assert set(found.families) == {family.name for family in FAMILIES.values()}
    assert all(family in said for family in found.families)
    assert "tiny pipelines with random weights of the real classes, not on the published weights" in said


def test_the_sums_of_the_fused_attention_are_held_against_the_definition(
    found: checkup.Checkup, monkeypatch: pytest.MonkeyPatch
):
    assert "attention   sums of the fused attention: float32 within" in str(found)
    measured = kernel.errors()
    assert measured["float32"] is not None and measured["float32"] < 1e-6
    assert kernel.wrong(measured) == []
    monkeypatch.setattr(kernel, "fused", in_base_two)
    assert kernel.wrong(kernel.errors())[0].startswith("the sums of the fused attention are wrong in float32, float16")
    monkeypatch.setattr(kernel, "fused", lambda call: None)
    assert kernel.told(kernel.errors()).endswith("float32 computed anew, float16 computed anew, bfloat16 computed anew")


def in_base_two(call: Call) -> tuple[torch.Tensor, torch.Tensor] | None:
    """A kernel whose logarithm is to the base of two."""
    both = fused(call)
    return None if both is None else (both[0], both[1] / math.log(2))


def test_a_problem_becomes_the_verdict(found: checkup.Checkup):
    ill = replace(found, problems=("torch 1.0 is too old", "no disk"))
    assert not ill.ok
    assert str(ill).endswith("verdict     torch 1.0 is too old; no disk")


def test_scarce_memory_and_disk_are_named():
    assert checkup.scarce(checkup.GIB // 2, 0) == [
        "only 0.5 GiB of memory free, 2 are comfortable",
        "only 0.0 GiB of disk free here, 1 are comfortable",
    ]
    assert checkup.scarce(8 * checkup.GIB, 8 * checkup.GIB) == []


def test_requirements_that_are_not_met_are_named():
    lines = ["numpy>=999", "no-such-thing>=1", "torch>=2", "streamlit>=999; extra == 'dashboard'"]
    assert checkup.unmet(lines) == [
        f"numpy {metadata.version('numpy')} is installed, needed is numpy>=999: pip install 'numpy>=999'",
        "no-such-thing is missing, needed is no-such-thing>=1: pip install 'no-such-thing>=1'",
    ]


def test_what_is_no_model_is_refused():
    with pytest.raises(NotAPipeline, match="no folder 'nowhere'"):
        probe.doctor("nowhere")
