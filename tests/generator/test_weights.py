"""Loading: what is accepted, what is refused and why, and the weights that come with the package."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub import constants

import probe
from probe.errors import DamagedFile, NotAPipeline, UnsafeWeights
from probe.generator import weights
from tests import pipelines


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(pipelines.folder("sd1"), tmp_path / "model")


def test_a_folder_is_loaded_in_float32(folder):
    pipe = probe.load(folder)
    assert isinstance(pipe, StableDiffusionPipeline)
    assert next(pipe.unet.parameters()).dtype == torch.float32


def test_a_live_pipeline_is_returned_unchanged():
    pipe = pipelines.pipeline("sd1")
    assert probe.load(pipe) is pipe


@pytest.mark.parametrize("source", ["no/such/folder/here", "./nowhere", "just-a-name", "a b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id(source):
    with pytest.raises(NotAPipeline, match="there is no folder"):
        probe.load(source)


def test_an_object_that_is_no_pipeline():
    with pytest.raises(NotAPipeline, match="dict is not a diffusers pipeline"):
        probe.load({})


def test_a_folder_without_a_pipeline_says_what_it_holds(tmp_path):
    (tmp_path / "holiday.txt").write_text("hello")
    with pytest.raises(NotAPipeline, match=r"no model_index.json \(it holds holiday.txt\)"):
        probe.load(tmp_path)


def test_pickled_weights_are_refused_with_the_remedy(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsafeWeights, match="convert them where you trust them"):
        probe.load(folder)


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    marker = tmp_path / "ran"
    (folder / "pipeline.py").write_text(f"open({str(marker)!r}, 'w').close()")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = ["pipeline", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnsafeWeights, match="code of its own"):
        probe.load(folder)
    assert not marker.exists()


def test_pickles_of_a_hub_that_lie_here_already_are_refused(folder, tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--who--knows"
    snapshot = shutil.copytree(folder, cache / "snapshots" / ("a" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert isinstance(probe.load("who/knows"), StableDiffusionPipeline)
    for file in (snapshot / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(UnsafeWeights, match="'who/knows' lacks safetensors of a part.*unet.*safe_serialization=True"):
        probe.load("who/knows")


def test_a_damaged_index_is_no_pipeline(folder):
    (folder / "model_index.json").write_text("{")
    with pytest.raises(NotAPipeline, match="could not be loaded"):
        probe.load(folder)


def test_menagerie_loads_with_plain_diffusers_and_is_small():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = StableDiffusionPipeline.from_pretrained(weights.MENAGERIE)
        drawn = plain("a cat", num_inference_steps=1, generator=torch.Generator().manual_seed(0)).images[0]
    ours = probe.load()
    same = ours("a cat", num_inference_steps=1, generator=torch.Generator().manual_seed(0)).images[0]
    assert np.array_equal(np.asarray(drawn), np.asarray(same))
    assert sum(path.stat().st_size for path in weights.MENAGERIE.rglob("*")) < 60e6


def test_every_file_of_menagerie_is_in_its_manifest():
    listed = set(json.loads((weights.MENAGERIE / "manifest.json").read_text()))
    held = {str(p.relative_to(weights.MENAGERIE)) for p in weights.MENAGERIE.rglob("*") if p.is_file()}
    assert held == listed | {"manifest.json"}


def test_weights_are_named_by_their_manifest_and_the_control_has_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MENAGERIE", tmp_path)
    manifest, plain, twin = tmp_path / "manifest.json", set[str](), set[str]()
    for control in ({weights.CONTROL: "1"}, {weights.CONTROL: "2"}, {}):
        manifest.write_bytes(weights.manifest({"unet": "0", **control}))
        plain.add(weights.revision())
        twin.add(weights.revision(control=True))
    assert plain == {weights.digest(manifest)[:32]}  # of the last, which lists no control
    assert len(twin) == 3


def test_a_damaged_weight_is_noticed(tmp_path, monkeypatch):
    copy = shutil.copytree(weights.MENAGERIE, tmp_path / "menagerie")
    target = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    monkeypatch.setattr(weights, "MENAGERIE", copy)
    with pytest.raises(DamagedFile, match="install diffusion-probe again"):
        probe.load()
    shutil.rmtree(copy)
    with pytest.raises(DamagedFile, match="missing"):
        probe.load()


def test_the_picture_encoder_and_the_judge_load():
    model = weights.clip()
    assert model.config.projection_dim == 128
    assert weights.judge().read(probe.load().image_processor.numpy_to_pil(torch.zeros(1, 128, 128, 3).numpy())[0])
