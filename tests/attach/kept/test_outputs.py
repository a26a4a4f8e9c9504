"""Outputs of named modules: what they really gave, under the right step, branch and picture; counted, given back."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import probe
from probe.attach.kept.outputs import choose, laid_out, tensors
from probe.attach.kept.passes import Pass
from probe.attach.model.layout import Plane
from probe.attach.text.rows import Row
from probe.errors import MissingReadings, NoMatch, OverBudget
from tests import pipelines
from tests.fingerprint import fingerprint


def record(family: str, call: dict[str, Any] | None = None, **options: Any) -> Any:
    """The recording of a tiny pipeline's run."""
    pipe = pipelines.pipeline(family)
    with probe.record(pipe, **options) as recording:
        pipelines.run(pipe, family, **call or {})
    return recording


def spied(family: str, paths: list[str], call: dict[str, Any] | None = None) -> dict[str, list[Any]]:
    """What hooks of our own see of modules, call by call, without a recording."""
    pipe, seen = pipelines.pipeline(family), defaultdict(list)
    handles = [
        getattr(pipe, path.partition(".")[0])
        .get_submodule(path.partition(".")[2])
        .register_forward_hook(lambda m, a, out, path=path: seen[path].append(out))
        for path in paths
    ]
    pipelines.run(pipe, family, **call or {})
    for handle in handles:
        handle.remove()
    return seen


def test_what_is_kept_is_what_the_module_gave():
    ff = "unet.up_blocks.1.attentions.0.transformer_blocks.0.ff"
    seen = spied("sd1", ["unet.mid_block", ff])
    trace = record("sd1", modules=["mid_block:whole", "*.ff"], branches=("cond", "uncond")).trace
    middle = trace.node("modules/unet.mid_block")
    assert middle["output"].dims == ("step", "branch", "image", "channel", "y", "x")
    assert list(middle.branch.values) == ["cond", "uncond"]
    for step, output in enumerate(seen["unet.mid_block"]):
        for branch, row in (("uncond", 0), ("cond", 1)):
            ours, theirs = middle.sel(branch=branch).isel(step=step, image=0), output[row].double()
            np.testing.assert_array_equal(ours["output"], theirs.float())
            np.testing.assert_allclose(ours["norm"], (theirs**2).sum(0).sqrt(), rtol=1e-5)
            np.testing.assert_allclose(ours["mean"], theirs.mean((1, 2)), rtol=1e-3, atol=1e-6)
    tokens = trace.node(f"modules/{ff}")
    assert "output" not in tokens and tokens["norm"].dims == ("step", "branch", "image", "y", "x")
    last = seen[ff][-1][1].double()  # [cell, channel] of the conditional row
    y, x = tokens.sizes["y"], tokens.sizes["x"]
    np.testing.assert_allclose(tokens["norm"].sel(branch="cond")[-1, 0], last.norm(dim=1).reshape(y, x), rtol=1e-5)
    np.testing.assert_allclose(tokens["mean"].sel(branch="cond")[-1, 0], last.mean(0), rtol=1e-3, atol=1e-6)


def test_every_picture_has_its_own_row():
    call = {"num_images_per_prompt": 2, "prompt": ["a cat", "a red balloon"]}
    seen = spied("sd1", ["unet.mid_block"], call)
    node = record("sd1", call, modules="mid_block:whole", words=[]).trace.node("modules/unet.mid_block")
    np.testing.assert_array_equal(node["output"].sel(branch="cond")[1], seen["unet.mid_block"][1][4:])


def test_groups_of_steps_hold_their_mean_and_unread_steps_nothing():
    call = {"num_inference_steps": 5}
    whole = record("sd1", call, modules=["mid_block"]).trace.node("modules/unet.mid_block")
    few = record("sd1", call, modules=["mid_block"], groups=2).trace.node("modules/unet.mid_block")
    some = record("sd1", call, modules=["mid_block"], steps=[1, 4]).trace.node("modules/unet.mid_block")
    assert few["step"].values.tolist() == [0, 3] and few["steps"].values.tolist() == [3, 2]
    np.testing.assert_allclose(few["norm"][0], whole["norm"][:3].mean("step"), rtol=1e-5)
    assert some["step"].values.tolist() == [1, 4]
    np.testing.assert_array_equal(some["norm"], whole["norm"].sel(step=[1, 4]))
    np.testing.assert_array_equal(some["timestep"], whole["timestep"].sel(step=[1, 4]))


def test_joint_blocks_give_text_and_picture():
    double, single = "transformer.transformer_blocks.0", "transformer.single_transformer_blocks.0"
    seen = spied("flux1", [double, single])
    trace = record("flux1", modules=["*transformer_blocks.0:whole"]).trace
    text, picture = seen[double][0]
    words, cells = trace.node(f"modules/{double}"), trace.node(f"modules/{double}-1")
    np.testing.assert_array_equal(words["output"][0, 0, 0], text[0])
    np.testing.assert_array_equal(cells["output"][0, 0, 0], picture[0].unflatten(0, (8, 12)))
    assert cells["output"].dims[-3:] == ("y", "x", "channel") and words["output"].dims[-2:] == ("token", "channel")
    assert f"/modules/{single}" in trace.tree.groups


def test_frames_lie_in_the_batch_or_in_the_sequence():
    seen = spied("animate_diff", ["unet.mid_block"])
    motion = "unet.mid_block.motion_modules.0.transformer_blocks.0.ff"
    trace = record("animate_diff", modules=["mid_block:whole", motion]).trace
    film = trace.node("modules/unet.mid_block")["output"]
    frames = film.sizes["frame"]
    assert film.dims == ("step", "branch", "image", "frame", "channel", "y", "x")
    np.testing.assert_array_equal(film.sel(branch="cond")[0, 0], seen["unet.mid_block"][0][-frames:])
    assert trace.node(f"modules/{motion}")["norm"].dims[-3:] == ("y", "x", "frame")
    node = record("wan", modules=["blocks.0"]).trace.node("modules/transformer.blocks.0")
    assert node["norm"].dims[-3:] == ("frame", "y", "x")


@pytest.mark.parametrize(
    ("family", "patterns"), [("sd1", ["*.ff"]), ("flux1", ["*.ff:whole", "*blocks.?"]), ("animate_diff", ["*.ff"])]
)
def test_the_estimate_counts_them(family: str, patterns: list[str]):
    recording = record(family, modules=patterns)
    assert recording.estimate.parts["modules"] > 0
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.1)


@pytest.mark.parametrize(("family", "part"), [("sd1", "mid_block"), ("flux1", "single_transformer_blocks.0")])
def test_too_many_are_refused_before_the_denoiser_runs(family: str, part: str):
    held = record(family, modules=[f"{part}:whole"]).estimate.total
    pipe, passes = pipelines.pipeline(family), []
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    handle = denoiser.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(OverBudget, match=r'leave out ":whole"'):
        record(family, modules=["*:whole"], budget=100_000)
    with pytest.raises(OverBudget, match=r"modules .* KiB.*the budget is"):
        record(family, modules=[f"{part}:whole"], budget=held - 1)
    with pytest.raises(OverBudget, match=r"modules .* KiB.*the budget is"):
        record(family, modules=[f"{part}:whole"], steps=[1], budget=20_000)
    handle.remove()
    assert passes == []


def test_patterns_that_give_nothing_say_so():
    with pytest.raises(NoMatch, match=r"modules='middle' names no module of the denoiser; there are: .*unet.mid_block"):
        record("sd1", modules=["mid_block", "middle"])
    with pytest.raises(MissingReadings, match=r"down_blocks \(ModuleList\) gave no tensor"):
        record("sd1", modules=["down_blocks"])


def test_a_module_that_is_skipped_at_a_step_is_missing():
    pipe = pipelines.load("sd1")

    def skip(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe.unet.mid_block = None
        return values

    said = r"unet.mid_block gave no output at one of the steps \[1\]"
    with pytest.raises(MissingReadings, match=said), probe.record(pipe, modules=["mid_block"], sites="down_blocks"):
        pipelines.run(pipe, "sd1", callback_on_step_end=skip)


@pytest.mark.parametrize("family", ["sd1", "flux1", "wan"])
def test_hooks_are_given_back_and_the_picture_is_the_same(family: str):
    pipe = pipelines.load(family)
    plain = pipelines.run(pipe, family)
    before = fingerprint(pipe)
    with probe.record(pipe, modules=["*"], text_states=True):
        assert np.array_equal(pipelines.run(pipe, family), plain)
    assert fingerprint(pipe) == before
    with pytest.raises(KeyError), probe.record(pipe, modules=["*"], text_states=True):
        pipelines.run(pipe, family)
        raise KeyError
    assert fingerprint(pipe) == before


def test_a_trace_with_modules_comes_back_from_disk(tmp_path):
    trace = record("flux1", modules=["*_blocks.*.ff", "transformer_blocks.1"], text_states=True).trace
    assert probe.open(trace.save(tmp_path / "trace")).equals(trace)


# The parts


PLANE, FILM = Plane(1, 4, 6, 24), Plane(3, 4, 6, 72)


@pytest.mark.parametrize(
    ("shape", "plane", "axes"),
    [
        ((2, 9), PLANE, ("channel",)),
        ((2, 24, 5), PLANE, ("y", "x", "channel")),
        ((2, 6, 5), PLANE, ("y", "x", "channel")),
        ((2, 7, 5), PLANE, ("token", "channel")),
        ((2, 31, 5), PLANE, ("token", "channel")),
        ((2, 5, 2, 3), PLANE, ("channel", "y", "x")),
        ((2, 5, 9, 2), PLANE, None),  # heads and their channels are no plane
        ((6, 5, 4, 6), FILM, ("frame", "channel", "y", "x")),
        ((2, 72, 5), FILM, ("frame", "y", "x", "channel")),
        ((48, 3, 5), FILM, ("y", "x", "frame", "channel")),
        ((2, 5, 3, 4, 6), FILM, ("channel", "frame", "y", "x")),
        ((3, 24, 5), PLANE, None),
        ((10, 5), PLANE, None),
    ],
)
def test_axes_are_told_by_shapes(shape: tuple[int, ...], plane: Plane, axes: tuple[str, ...] | None):
    current = Pass("unet", 0, (Row("cond", 0, 0), Row("cond", 1, 1)), plane, text=7, texts=(7, 7))
    found = laid_out(torch.arange(float(np.prod(shape))).reshape(shape), current)
    assert (found and found[1]) == axes
    if found:
        assert found[0].shape[0] == 2 and found[0].ndim == len(found[1]) + 1
        assert torch.equal(found[0].flatten(), torch.arange(float(np.prod(shape))))


def test_all_tensors_that_a_module_returns_have_their_place():
    x = torch.zeros(1)
    assert [place for place, _ in tensors((None, x, (x, x), x))] == [1, 3]
    assert [place for place, _ in tensors({"sample": x})] == [0]
    assert list(tensors(SimpleNamespace())) == [] and next(tensors(x))[0] == 0


def test_whole_wins_and_no_module_is_chosen_twice():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    chosen = choose({"unet": model}, ["0:whole", "unet.*"])
    assert [(one.path, one.whole) for one in chosen] == [("unet.0", True), ("unet.1", False)]
