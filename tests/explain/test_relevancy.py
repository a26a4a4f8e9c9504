"""Relevancy from a recording: the node, the explainer, batches and branches, targets, and its errors."""

import numpy as np
import pytest
import torch

import probe
from probe.errors import BadInput, NoSuchWord, NotRecorded, UnknownFamily
from probe.explain.relevancy import relevancy_maps
from tests import pipelines
from tests.factories import make_trace
from tests.fingerprint import fingerprint


def record(family: str, *, call: dict | None = None, **asked):
    """The trace of a tiny pipeline with relevancy."""
    pipe = pipelines.pipeline(family)
    with probe.record(pipe, explain=probe.Relevancy(**({"steps": (0,)} | asked))) as recording:
        pipelines.run(pipe, family, **(call or {}))
    return recording.trace


@pytest.fixture(scope="module")
def trace():
    pipe = pipelines.load("sd1")
    plain = pipelines.run(pipe, "sd1")
    before = fingerprint(pipe)
    with probe.record(pipe, explain=probe.Relevancy(steps=(0, 1))) as recording:
        explained = pipelines.run(pipe, "sd1")
    assert np.array_equal(plain, explained)  # explaining changes nothing
    assert fingerprint(pipe) == before
    return recording.trace


def test_every_content_word_has_a_map_at_the_latents_resolution(trace):
    node = trace.node("relevancy")["relevancy"]
    assert node.dims == ("step", "image", "word", "y", "x")
    assert list(node["word"].values) == ["cat", "red", "balloon"]
    assert node.shape[-2:] == (16, 24) and float(node.min()) >= 0 and float(node.max()) > 0
    assert node.attrs["lands_on"] == "tokens"


def test_the_heatmap_is_the_mean_over_steps(trace):
    heatmap = probe.relevancy(trace, "cat")
    expected = trace.node("relevancy")["relevancy"].sel(word="cat").isel(image=0).mean("step")
    np.testing.assert_allclose(heatmap.values, expected, rtol=1e-5)
    assert heatmap.method == "relevancy" and heatmap.provenance["target"] == "guidance"


def test_steps_are_weighted_by_the_root_of_the_noise_that_they_remove(trace):
    node = trace.node("relevancy").sel(word="cat").isel(image=0)
    share = node["noise_removed"].values
    abar = pipelines.pipeline("sd1").scheduler.alphas_cumprod.numpy()
    first, second = (int(t) for t in trace.run.timesteps)
    np.testing.assert_allclose(share, [abar[second] - abar[first], 1 - abar[second]], rtol=1e-5)
    expected = sum(share[i] ** 0.5 * node["relevancy"].values[i] for i in range(2))
    np.testing.assert_allclose(probe.relevancy(trace, "cat", over="noise").values, expected, rtol=1e-5)
    one = probe.relevancy(trace, "cat", steps=1, over="noise").values
    np.testing.assert_allclose(one, share[1] ** 0.5 * probe.relevancy(trace, "cat", steps=1).values, rtol=1e-5)


def test_a_box_explains_only_what_is_inside():
    sums = [float(probe.relevancy(record("sd1", box=b), "cat").values.sum()) for b in (None, (0.0, 0.0, 0.25, 0.25))]
    assert 0 < sums[1] < sums[0]


@pytest.mark.parametrize("options", [{"through_text": False}, {"self_rule": True}])
def test_options_give_other_maps_and_are_noted(trace, options):
    other = record("sd1", **options)
    first, second = (relevancy_maps(t, steps=0) for t in (trace, other))
    assert not np.allclose(first, second, rtol=1e-3)
    noted = probe.relevancy(other, "cat").provenance
    assert noted["lands_on"] == ("text states" if "through_text" in options else "tokens")
    assert bool(noted["self_rule"]) is ("self_rule" in options)


def test_several_prompts_and_pictures_have_their_own_words():
    call = {"prompt": ["a cat and a red balloon", "a dog"], "num_images_per_prompt": 2}
    both = record("sd1", call=call)
    node = both.node("relevancy")["relevancy"]
    assert node.shape[:3] == (1, 4, 4) and list(node["word"].values) == ["cat", "red", "balloon", "dog"]
    assert bool(node.sel(word="dog", image=[0, 1]).isnull().all() & node.sel(word="cat", image=[2, 3]).isnull().all())
    assert not np.allclose(relevancy_maps(both, image=0), relevancy_maps(both, image=1), rtol=1e-3)
    assert float(probe.relevancy(both, "dog", image=3).values.max()) > 0
    with pytest.raises(NoSuchWord, match="its words are: dog"):
        probe.relevancy(both, "cat", image=3)


def test_a_picture_of_a_batch_has_the_map_that_it_has_alone():
    call = {"prompt": ["a dog", "a cat and a red balloon"]}
    latents = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(4))
    both = record("sd1", call=call | {"latents": latents})
    alone = record("sd1", call={"latents": latents[1:]})
    first, second = probe.relevancy(both, "cat", image=1), probe.relevancy(alone, "cat")
    np.testing.assert_allclose(first.values, second.values, rtol=1e-2, atol=1e-3 * float(second.values.max()))


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux2_klein", "qwen_image"])
def test_guidance_in_other_families_and_in_calls_of_their_own(family):
    found = record(family).node("relevancy")["relevancy"]
    assert found.sizes["image"] == 1 and float(found.min()) >= 0 and float(found.max()) > 0


def test_a_target_is_any_function_of_what_is_seen():
    shapes = []

    def brightness(seen):
        shapes.append((tuple(seen.x0.shape), tuple(seen.picture.shape)))
        return seen.inside(seen.picture).mean()

    found = record("sd1", target=brightness, box=(0.0, 0.0, 0.5, 1.0))
    assert shapes == [((1, 4, 16, 24), (1, 3, 64, 96))]
    assert float(probe.relevancy(found, "cat").values.max()) > 0
    assert probe.relevancy(found, "cat").provenance["target"] == "brightness"


def test_relevancy_of_the_predicted_picture_is_positive_without_guidance_too():
    assert float(probe.relevancy(record("sd1", target="x0", call={"guidance_scale": 1.0}), "cat").values.max()) > 0
    assert float(probe.relevancy(record("flux1", target="x0"), "cat").values.max()) > 0


def test_errors_say_what_to_record(trace):
    with pytest.raises(NotRecorded, match=r"explain=probe.Relevancy\(\)"):
        probe.relevancy(make_trace(), "cat")
    with pytest.raises(NoSuchWord, match="cat, red, balloon"):
        probe.relevancy(trace, "dog")
    with pytest.raises(NotRecorded, match="step 7 was not recorded"):
        probe.relevancy(trace, "cat", steps=7)
    with pytest.raises(NotRecorded, match="no picture 3"):
        probe.relevancy(trace, "cat", image=3)


def test_guidance_needs_both_branches_and_a_box_needs_cells():
    with pytest.raises(BadInput, match="target='output'"):
        record("sd1", call={"guidance_scale": 1.0})
    with pytest.raises(BadInput, match="target='output'"):
        record("sd1", steps=(1,), call={"guidance_scale": 1.0})  # the last step: nothing comes after it
    with pytest.raises(BadInput, match="holds no cell"):
        record("sd1", box=(0.5, 0.5, 0.501, 0.501))


def test_a_target_that_fails_leaves_nothing_behind():
    pipe = pipelines.pipeline("sd1")
    pipelines.run(pipe, "sd1")
    before = fingerprint(pipe)
    with pytest.raises(ZeroDivisionError):
        record("sd1", target=lambda seen: seen.x0.sum() / (1 // 0))
    assert fingerprint(pipe) == before


@pytest.mark.parametrize("family", ["wan", "hunyuan_dit", "z_image", "sana"])
def test_families_that_it_cannot_follow_say_so(family):
    with pytest.raises(UnknownFamily, match=r"use probe.attention for"):
        record(family, target="output")
