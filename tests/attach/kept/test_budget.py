"""Asking first: how much is kept, what it weighs, and what is refused before any work is done."""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe.attach.kept.budget import readable
from probe.attach.kept.keeping import Wish
from probe.attach.kept.remedy import Cost, changes, remedy
from probe.attach.model import survey
from probe.errors import BadInput, MissingReadings, NoMatch, NotRecorded, OverBudget
from probe.site import Site
from tests import pipelines


def record(family: str, run: dict | None = None, **options):
    """The recording of a tiny pipeline's run."""
    with probe.record(pipelines.pipeline(family), **options) as recording:
        pipelines.run(pipelines.pipeline(family), family, **run or {})
    return recording


@contextmanager
def counted(module: Any, passes: list[int]) -> Iterator[None]:
    """Each pass of the module leaves a mark."""
    handle = module.register_forward_hook(lambda *_: passes.append(1))
    try:
        yield
    finally:
        handle.remove()


OPTIONS = {
    "default": {},
    "maps": {"keep": "maps"},
    "full": {"keep": "full"},
    "two heads": {"heads": [0, 2], "words": ["cat"]},
    "one step": {"steps": [1]},
    "groups": {"groups": 1},
    "both branches": {"branches": ("cond", "uncond"), "sites": "mid_block"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_estimate_is_what_is_then_held(options: dict):
    recording = record("sd1", **options)
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.05)


@pytest.mark.parametrize("family", pipelines.FAMILIES)
def test_the_estimate_is_right_for_every_family(family: str):
    recording = record(family)
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.1)


RELATIONS = {
    "film": ("hunyuan_video", ("image->image:rows", "frame->frame"), {}),
    "prompts, one by one": (
        "hunyuan_video",
        ("image->image:rows", "frame->frame"),
        {"prompt": ["a cat and a red balloon", "two dogs"], "num_inference_steps": 5},
    ),
    "text": ("sd3", ("text->text", "text->image"), {"num_inference_steps": 5}),
    "grids": ("sd1", ("image->image", "image->image:low-rank"), {}),
}


@pytest.mark.parametrize("groups", [1, 50])
@pytest.mark.parametrize(("family", "relations", "run"), RELATIONS.values(), ids=RELATIONS)
def test_the_estimate_counts_all_of_the_nodes_of_relations(family: str, relations: tuple, run: dict, groups: int):
    recording = record(family, run, relations=relations, groups=groups)
    nodes = recording.trace.tree["relations"].subtree
    held = sum(node.to_dataset().nbytes for node in nodes if node.data_vars)
    assert recording.estimate.parts["relations"] == held
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.02)


@pytest.mark.parametrize("family", ["sdxl", "flux1", "sd3", "wan22", "z_image", "lumina2", "animate_diff"])
@pytest.mark.parametrize("surveyed", [False, True])
def test_the_estimate_of_all_heads_is_right_with_and_without_a_survey(
    family: str, surveyed: bool, monkeypatch: pytest.MonkeyPatch
):
    survey._known.clear()
    monkeypatch.setattr("probe.attach.kept.budget.Budget._bound", lambda *_: 10**18 * surveyed)
    recording = record(family, keep="full")
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.1)


@pytest.mark.parametrize("family", ["sd1", "flux1", "pixart_sigma"])
def test_too_much_is_refused_before_the_denoiser_runs(family: str):
    survey._known.clear()
    pipe, passes = pipelines.pipeline(family), []
    held = record(family).trace.nbytes
    survey._known.clear()
    refused = pytest.raises(OverBudget, match=r"the recording would hold about .*; the budget is")
    with counted(pipe.unet if hasattr(pipe, "unet") else pipe.transformer, passes), refused:
        record(family, budget=held // 2)
    assert passes == []


def test_where_shapes_do_not_tell_the_first_pass_does():
    survey._known.clear()
    with pytest.raises(OverBudget, match="the budget is 99 bytes"):
        record("lumina2", budget=99)


def test_the_remedy_fits():
    held = record("sd1", keep="full").estimate.total
    with pytest.raises(OverBudget, match=r"The cheapest change that fits: words=\[") as refused:
        record("sd1", keep="full", budget=held - 1)
    assert f"budget={held}" in str(refused.value)
    less = record("sd1", keep="maps", budget=held - 1).estimate.total
    with pytest.raises(OverBudget, match="cheapest change that fits"):
        record("sd1", keep="maps", budget=less - 1)
    record("sd1", keep="full", budget=held)


def test_every_change_is_less_and_the_best_is_named():
    grids = [("unet.down_blocks.0.attn2", 64), ("unet.down_blocks.1.attn2", 32), ("unet.mid_block.attn2", 8)]
    sites = tuple(Site(path=path, kind="cross", grid=(side, side), heads=8) for path, side in grids)
    cost = Cost(sites, Wish(), 50, 1, 1, ("cat", "dog", "<start>"), 2, {"latents": 1000})
    every = dict(changes(cost))
    assert all(other.total < cost.total for other in every.values())
    assert {"groups=25", "words=['cat', 'dog']", "sites=['down_blocks.1', 'mid_block']"} <= set(every)
    assert remedy(cost, cost.total - 1).startswith("The cheapest change that fits: words=['cat', 'dog']")
    both = re.fullmatch(r"The cheapest change that fits: (\w+)=.*, (\w+)=.* \(([\d,]+) bytes\)", remedy(cost, 5_000))
    assert both and both[1] != both[2] and 3_000 < int(both[3].replace(",", "")) <= 5_000
    nothing = "No two changes of heads, words, steps or sites make it fit: all but attention is 1,000 bytes"
    assert remedy(cost, 10) == nothing


def test_two_changes_that_are_named_fit_when_they_are_made():
    with pytest.raises(OverBudget, match=r"cheapest change that fits: \w+=.*, \w+=") as refused:
        record("sd1", {"num_inference_steps": 6}, keep="full", budget=100_000)
    named = re.search(r"that fits: (.*) \(([\d,]+) bytes\)", str(refused.value))
    assert named is not None
    options = as_typed(named[1])
    recording = record("sd1", {"num_inference_steps": 6}, budget=100_000, **{"keep": "full"} | options)
    assert recording.estimate.total == int(named[2].replace(",", "")) <= 100_000


def as_typed(text: str) -> dict:
    """The arguments that a remedy names, as a caller would type them."""
    call = ast.parse(f"record({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(word.arg): _value(word.value) for word in call.keywords}


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call):  # slice(None, None, 2)
        return slice(*(ast.literal_eval(each) for each in node.args))
    return ast.literal_eval(node)


def test_without_words_no_maps_are_counted():
    record("sd1")
    recording = record("sd1", relations=[])
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.05)
    assert recording.trace.attention_nodes() == ()


def test_heads_have_an_axis_of_their_own_and_their_mean_is_the_map():
    trace = record("sd1", heads="all").trace
    for node in trace.attention_nodes():
        y, x = node.sizes["y"], node.sizes["x"]
        apart = trace.node(f"heads/{y}x{x}")["attention"]
        assert apart.dims == ("site", "step", "branch", "image", "head", "word", "y", "x")
        assert apart.sizes["head"] == trace.sites[0].heads
        np.testing.assert_allclose(apart.mean("head"), node["attention"], atol=1e-6)
    some = record("sd1", heads=[2, 0]).trace.node("heads/8x12")
    assert some["head"].values.tolist() == [0, 2]
    np.testing.assert_array_equal(some["attention"], trace.node("heads/8x12")["attention"].sel(head=[0, 2]))


def test_groups_of_steps_hold_their_mean():
    whole = record("sd1", {"num_inference_steps": 5}).trace
    grouped = record("sd1", {"num_inference_steps": 5}, groups=2).trace
    for many, few in zip(whole.attention_nodes(), grouped.attention_nodes(), strict=True):
        assert few["step"].values.tolist() == [0, 3] and few["steps"].values.tolist() == [3, 2]
        for at, steps in enumerate(([0, 1, 2], [3, 4])):
            mean = many["attention"].sel(step=steps).mean("step")
            np.testing.assert_allclose(few["attention"].isel(step=at), mean, atol=1e-6)
    assert grouped.node("latents").sizes["step"] == 5


def test_steps_that_are_not_asked_for_are_not_read(monkeypatch: pytest.MonkeyPatch):
    read = []
    original = probe.attach.kept.attention.AttentionReader._take
    monkeypatch.setattr(
        "probe.attach.kept.attention.AttentionReader._take",
        lambda self, call, lse, ats: (read.extend(at.step for at in ats), original(self, call, lse, ats))[1],
    )
    trace = record("sd1", {"num_inference_steps": 4}, steps=slice(1, 4, 2)).trace
    assert sorted(read) == [1] * 7 + [3] * 7
    assert [node["step"].values.tolist() for node in trace.attention_nodes()] == [[1, 3]] * 3
    whole = record("sd1", {"num_inference_steps": 4}).trace
    for few, many in zip(trace.attention_nodes(), whole.attention_nodes(), strict=True):
        np.testing.assert_array_equal(few["attention"], many["attention"].sel(step=[1, 3]))


def test_levels_hold_more_and_more():
    summary, maps, full = (record("sd1", keep=level).trace for level in ("summary", "maps", "full"))
    assert set(summary.labels) == {"cat", "red", "balloon", "<start>", "<end>", "<padding>"}
    assert set(maps.labels) == {*summary.labels, "a", "and", "a#2"} == set(full.labels)
    assert "heads" in full.tree.children and "heads" not in maps.tree.children


def test_selections_that_select_nothing_say_what_there_is():
    with pytest.raises(NoMatch, match="this run has steps 0 to 1"):
        record("sd1", steps=[2])
    with pytest.raises(NoMatch, match="no site has head 9; they have up to 4"):
        record("sd1", heads=[9])


def test_a_selected_step_that_did_not_run_is_missing():
    def stop(pipe, step, timestep, values):
        pipe._interrupt = step == 1
        return values

    with pytest.raises(MissingReadings, match="step 3 was selected, but the run ended after 2 of 4 steps"):
        record("sd1", {"num_inference_steps": 4, "callback_on_step_end": stop}, steps=[0, 3])


def test_sizes_are_readable():
    assert [readable(n) for n in (12, 2048, 5 * 2**20, 3 * 2**31)] == ["12 bytes", "2.0 KiB", "5.0 MiB", "6.0 GiB"]


def test_a_trace_with_heads_comes_back_from_disk(tmp_path):
    trace = record("sd1", heads="all", groups=1).trace
    assert probe.open(trace.save(tmp_path / "trace")).equals(trace)


@pytest.mark.parametrize("options", [{}, {"modules": ["mid_block"]}, {"explain": [probe.Relevancy(steps=(0,))]}])
def test_a_dry_run_says_what_would_be_held_and_draws_nothing(options: dict):
    survey._known.clear()
    pipe, passes = pipelines.pipeline("sd1"), []
    with counted(pipe.unet, passes):
        recording = record("sd1", dry_run=True, **options)
    assert passes == []
    held = record("sd1", **options).trace.nbytes
    assert recording.estimate.total == pytest.approx(held, rel=0.1)
    with pytest.raises(NotRecorded, match=r"dry_run=True asks for recording\.estimate alone"):
        _ = recording.trace


def test_where_shapes_do_not_tell_a_dry_run_takes_one_pass():
    survey._known.clear()
    passes = []
    with counted(pipelines.pipeline("lumina2").transformer, passes):
        recording = record("lumina2", dry_run=True)
    assert len(passes) == 1
    assert recording.estimate.total == pytest.approx(record("lumina2").trace.nbytes, rel=0.1)


def test_a_dry_run_keeps_to_the_budget_and_other_errors_come_through():
    with pytest.raises(OverBudget, match="the budget is 99 bytes"):
        record("sd1", dry_run=True, budget=99)
    with pytest.raises(ZeroDivisionError), probe.record(pipelines.pipeline("sd1"), dry_run=True):
        raise ZeroDivisionError


def test_an_existing_picture_has_no_dry_run():
    with pytest.raises(BadInput, match=r"ask probe\.record for it"):
        probe.record_image(pipelines.pipeline("sd1"), Image.new("RGB", (64, 64)), "a cat", dry_run=True)
