"""Packing: what was trained is what loads, and the control weights survive a denoiser that was trained on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import probe
from probe.generator import weights
from probe.generator.train.pack import pack
from probe.generator.train.stages import LARGE, LED, Plan, train_clip, train_denoiser
from probe.generator.world import CONTROL, Dials


def unet(source: str) -> dict[str, torch.Tensor]:
    return probe.load(source).unet.state_dict()


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def of(state: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """The weights of one part of a reader."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def test_without_checkpoints_nothing_changes(tmp_path: Path):
    package = shutil.copytree(weights.MENAGERIE, tmp_path / "menagerie")
    pack(Plan(tmp_path / "nothing"), package)
    before, after = ((folder / "manifest.json").read_text() for folder in (weights.MENAGERIE, package))
    assert json.loads(after) == json.loads(before)


def test_the_encoders_are_packed_without_what_they_were_asked_in_training(tmp_path: Path):
    package = shutil.copytree(weights.MENAGERIE, tmp_path / "menagerie")
    plan = Plan(tmp_path / "training", smoke=True, resume=True)
    train_clip(plan)
    pack(plan, package)
    before, after = weights.clip().state_dict(), load_file(package / "clip" / "model.safetensors")
    assert set(before) == set(after)
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value.half(), after[name])}
    assert {"vision_model", "visual_projection", "text_projection", "text_model"} <= changed
    tower = "text_encoder/model.safetensors"  # the denoiser reads its own
    assert (package / tower).read_bytes() == (weights.MENAGERIE / tower).read_bytes()


@pytest.mark.slow
def test_the_control_begins_as_the_denoiser_and_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = shutil.copytree(weights.MENAGERIE, tmp_path / "menagerie")
    shutil.rmtree(package / "control", ignore_errors=True)
    monkeypatch.setattr(weights, "MENAGERIE", package)
    plan = Plan(tmp_path / "training", smoke=True)
    plan.folder.mkdir()
    train_denoiser(plan)
    train_denoiser(plan, "control", CONTROL)
    pack(plan, package)
    trained = of(load_file(plan.folder / "control" / "average.safetensors"), "unet")
    control = unet("menagerie-control")
    assert 0 < apart(unet("menagerie"), control) < 0.1  # a few steps away
    assert apart(control, trained) < 2e-3  # half precision and the difference's rounding

    shutil.rmtree(plan.folder / "control")
    moved = load_file(plan.folder / "denoiser" / "average.safetensors")
    shift = {name: value + 0.01 for name, value in moved.items()}
    save_file(shift, plan.folder / "denoiser" / "average.safetensors")
    pack(plan, package)
    pipe = probe.load("menagerie")
    assert apart(pipe.unet.state_dict(), of(shift, "unet")) < 2e-3
    assert apart(pipe.text_encoder.state_dict(), of(shift, "text")) < 2e-3
    assert apart(unet("menagerie-control"), trained) < 4e-3
    assert weights.CONTROL in json.loads((package / "manifest.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "dials"), [("pairs", LED), ("large", LARGE)])
def test_the_last_samples_go_on_from_the_denoiser_in_the_folder_and_are_what_is_packed(
    tmp_path: Path, stage: str, dials: Dials
):
    package = shutil.copytree(weights.MENAGERIE, tmp_path / "menagerie")
    plan = Plan(tmp_path / "training", smoke=True, resume=True)
    plan.folder.mkdir()
    train_denoiser(plan)
    path = plan.folder / "denoiser" / "average.safetensors"
    save_file({name: value + 0.02 for name, value in load_file(path).items()}, path)
    train_denoiser(plan, stage, dials)
    begun, last = (load_file(plan.folder / name / "average.safetensors") for name in ("denoiser", stage))
    assert 0 < apart(of(begun, "unet"), of(last, "unet")) < 0.1
    assert apart(of(begun, "text"), of(last, "text")) == 0  # the control reads this tower as well
    pack(plan, package)
    packed = load_file(package / "unet" / "diffusion_pytorch_model.safetensors")
    assert apart({name: value.float() for name, value in packed.items()}, of(last, "unet")) < 2e-3
