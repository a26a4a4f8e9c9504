"""What is said about guidance: inside the pipeline, by diffusers' guiders, and where there is no second branch."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    ModularPipeline,
    StableDiffusion3AutoBlocks,
    StableDiffusionXLAutoBlocks,
    ZImageAutoBlocks,
    guiders,
)
from diffusers.hooks import LayerSkipConfig, SmoothedEnergyGuidanceConfig

import probe
from probe.attach.kept.guidance import GuidanceReader
from probe.attach.kept.guiders import FORMS, Combined
from probe.attach.model.prediction import Level, level
from probe.errors import UnknownFamily
from probe.nurse import AttendAndExcite
from probe.trace import Trace
from tests import pipelines
from tests.pipelines.parts import picture


def recorded(family: str, **call: Any) -> Trace:
    pipe = pipelines.pipeline(family)
    with probe.record(pipe) as recording:
        pipelines.run(pipe, family, **call)
    return recording.trace


def test_every_branch_predicts_a_picture_of_its_own():
    node = recorded("sd1").node("latents")
    cond, uncond, guided = (node[name].astype(float) for name in ("predicted_cond", "predicted_uncond", "predicted"))
    np.testing.assert_allclose(guided, uncond + 4.0 * (cond - uncond), atol=0.05 * float(np.abs(guided).max()))
    assert float(np.abs(cond - uncond).max()) > 1e-2


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sd3", "qwen_image"])
def test_norms_follow_from_the_guided_and_the_unguided_prediction(family: str):
    node, latents = recorded(family).node("guidance"), recorded(family).node("latents")
    assert node.attrs["method"] == "classifier-free guidance"
    other = "negative" if family == "qwen_image" else "uncond"  # which is called with a negative prompt
    assert set(node.attrs["branches"]) == {"cond", other}
    np.testing.assert_allclose(node["update_ratio"] * node["cond_norm"], node["guided_norm"], rtol=1e-4)
    triangle = abs(node["guided_norm"] - node["cond_norm"]) - node["update_norm"]
    assert float(triangle.max()) < 1e-3 * float(node["guided_norm"].max())
    if family != "qwen_image":  # whose guided prediction is rescaled
        np.testing.assert_allclose(node["update_norm"], 3.0 * node["difference_norm"], rtol=1e-3)
    assert f"predicted_{other}" in latents


@pytest.mark.parametrize("family", ["sd1", "sd2", "sd3"])
def test_cosines_are_those_of_what_the_branches_predict_at_every_step(family: str):
    """Also in the first step of a flow, where all is noise and eps is the same for all branches."""
    trace = recorded(family, num_inference_steps=3, guidance_scale=2.0)
    node, latents = trace.node("guidance"), trace.node("latents").astype(float)
    ways = (latents["predicted_uncond"] - latents["predicted_cond"]).values.reshape(3, -1)
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    np.testing.assert_allclose(node["cosine_final"][:, 0], ways @ ways[-1], atol=0.05)  # as float16
    np.testing.assert_allclose(node["cosine_previous"][1:, 0], (ways[1:] * ways[:-1]).sum(1), atol=0.05)


def test_a_distilled_model_says_that_there_is_no_second_branch():
    trace = recorded("flux1")
    node = trace.node("guidance")
    assert node.attrs["method"].startswith("distilled: the denoiser is told the scale")
    assert "difference_norm" not in node and "predicted_uncond" not in trace.node("latents")
    np.testing.assert_allclose(node["update_norm"], 0.0, atol=1e-5)
    without = recorded("sd1", guidance_scale=1.0).node("guidance")
    assert without.attrs["method"].startswith("none: only the prompt's own branch ran")


# Guiders


def of_blocks(blocks: Any, family: str) -> ModularPipeline:
    """A small pipeline of blocks, with the parts of the family's own pipeline."""
    parts, pipe = pipelines.load(family).components, blocks.init_pipeline()
    shared = {name: part for name, part in parts.items() if name in pipe.components and part is not None}
    pipe.update_components(**shared)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def modular() -> ModularPipeline:
    """A small Stable Diffusion XL of blocks."""
    return of_blocks(StableDiffusionXLAutoBlocks(), "sdxl")


MIDDLE = {"fqn": "mid_block.attentions.0.transformer_blocks", "indices": [0]}
SKIP = LayerSkipConfig(**MIDDLE, skip_attention=False, skip_ff=True)
SCORES = LayerSkipConfig(**MIDDLE, skip_attention=False, skip_attention_scores=True)
GUIDERS = {
    "CFG": (lambda: guiders.ClassifierFreeGuidance(guidance_scale=4.0), {"cond", "uncond"}),
    "APG": (lambda: guiders.AdaptiveProjectedGuidance(guidance_scale=4.0), {"cond", "uncond"}),
    "CFG-Zero*": (lambda: guiders.ClassifierFreeZeroStarGuidance(guidance_scale=4.0), {"cond", "uncond"}),
    "TCFG": (lambda: guiders.TangentialClassifierFreeGuidance(guidance_scale=4.0), {"cond", "uncond"}),
    "SLG": (
        lambda: guiders.SkipLayerGuidance(
            guidance_scale=4.0, skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0, skip_layer_config=SKIP
        ),
        {"cond", "uncond", "cond_skip"},
    ),
    "PAG": (
        lambda: guiders.PerturbedAttentionGuidance(
            guidance_scale=4.0,
            perturbed_guidance_start=0.0,
            perturbed_guidance_stop=1.0,
            perturbed_guidance_config=SCORES,
        ),
        {"cond", "uncond", "cond_skip"},
    ),
    "SEG": (
        lambda: guiders.SmoothedEnergyGuidance(
            guidance_scale=4.0,
            seg_guidance_start=0.0,
            seg_guidance_stop=1.0,
            seg_guidance_config=SmoothedEnergyGuidanceConfig(**MIDDLE),
        ),
        {"cond", "uncond", "cond_seg"},
    ),
}


def run(pipe: ModularPipeline, **more: Any) -> Any:
    size = {"height": pipelines.HEIGHT, "width": pipelines.WIDTH}
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers about its own blocks
        call = {"num_inference_steps": 3, "output": "images", "output_type": "np"}
        return pipe(prompt=pipelines.PROMPT, generator=generator, **call, **size, **more)


@pytest.mark.parametrize("name", GUIDERS)
def test_a_guider_is_recorded_through_its_own_forward(modular: ModularPipeline, name: str):
    make, branches = GUIDERS[name]
    guider = make()
    modular.update_components(guider=guider)
    plain = run(modular)
    steps: list[tuple[dict[str, torch.Tensor], torch.Tensor, float, torch.Tensor]] = []
    step, forward = modular.scheduler.step, guider.forward
    said: list[dict[str, torch.Tensor]] = []

    @functools.wraps(forward)
    def listen(**given: torch.Tensor) -> Any:
        said.append(given)
        return forward(**given)

    @functools.wraps(step)
    def spy(out: torch.Tensor, t: Any, x: torch.Tensor, *rest: Any, **options: Any) -> Any:
        steps.append((said[-1], out, t, x))
        return step(out, t, x, *rest, **options)

    guider.forward, modular.scheduler.step = listen, spy
    try:
        with probe.record(modular, words=["cat", "balloon"]) as recording:
            picture = run(modular)
    finally:
        del guider.forward, modular.scheduler.step
    assert np.array_equal(plain, picture)
    trace = recording.trace
    node = trace.node("guidance")
    assert node.attrs["method"] == type(guider).__name__ and set(node.attrs["branches"]) <= branches
    given_names = [{n.removeprefix("pred_") for n, value in given.items() if value is not None} for given, *_ in steps]
    assert set(node.attrs["branches"]) == max(given_names, key=len)
    for i, (given, out, t, x) in enumerate(steps):
        noise = level(modular.scheduler, t)
        norm = float(noise.epsilon(out, x).norm())
        assert float(node["guided_norm"][i, 0]) == pytest.approx(norm, rel=1e-4, abs=1e-6)
        for branch, value in given.items():
            if value is not None:
                own = node[f"{branch.removeprefix('pred_')}_norm"]
                assert float(own[i, 0]) == pytest.approx(float(value.norm()), rel=1e-4)
    assert trace.labels == ("cat", "balloon") and len(trace.sites) == 11


def test_the_estimate_counts_the_branches_that_a_guider_has_later(modular: ModularPipeline):
    guider = GUIDERS["SLG"][0]()  # whose third branch rests in the first step
    modular.update_components(guider=guider)
    with probe.record(modular, words=["cat"]) as recording:
        run(modular)
    assert (
        recording.estimate is not None and set(recording.trace.node("guidance").attrs["branches"]) == GUIDERS["SLG"][1]
    )
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.1)


def test_the_estimate_is_right_where_blocks_prepare_latents_unheard(modular: ModularPipeline):
    before = modular.scheduler
    modular.update_components(
        guider=guiders.ClassifierFreeGuidance(guidance_scale=4.0),
        scheduler=EulerDiscreteScheduler.from_config(before.config),
    )
    try:
        with probe.record(modular, words=["cat"], steps=-1) as recording:
            run(modular, image=picture(), strength=0.7)
    finally:
        modular.update_components(scheduler=before)
    assert recording.estimate is not None and recording.trace.attention_nodes()[0]["step"].values.tolist() == [1]
    assert recording.estimate.total == pytest.approx(recording.trace.nbytes, rel=0.1)


def test_latents_that_are_moved_are_moved_for_every_branch_of_a_guider(modular: ModularPipeline):
    """Each has a call of its own, and all are given one tensor of latents, scaled for this scheduler before them."""
    before, seen = modular.scheduler, list[torch.Tensor]()
    euler = EulerDiscreteScheduler.from_config(before.config)
    modular.update_components(guider=guiders.ClassifierFreeGuidance(guidance_scale=4.0), scheduler=euler)
    nurse = AttendAndExcite(subjects=["cat", "balloon"], max_refinements=1)
    try:
        with probe.record(modular, words=["cat"], interventions=nurse):
            look = modular.unet.register_forward_pre_hook(  # behind the recording's own
                lambda module, args, given: seen.append((*args, given.get("sample"))[0].clone()), with_kwargs=True
            )
            run(modular)
    finally:
        look.remove()
        modular.update_components(scheduler=before)
    assert len(seen) == 6
    for cond, uncond in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(cond, uncond)


def guided_as(trace: Trace, other: str, scale: float) -> None:
    """Every step's guided picture is made of those of its two branches."""
    node = trace.node("latents")
    cond, beside, guided = (node[name].astype(float) for name in ("predicted_cond", f"predicted_{other}", "predicted"))
    np.testing.assert_allclose(guided, beside + scale * (cond - beside), atol=0.01 * float(np.abs(guided).max()))
    assert float(np.abs(cond - beside).max()) > 1e-3


@pytest.mark.parametrize(("more", "other"), [({}, "uncond"), ({"negative_prompt": "a dog"}, "negative")])
def test_a_guider_is_given_what_its_scheduler_is_given(more: dict[str, str], other: str):
    """The blocks of Z-Image turn its output round before they guide, and its pipeline does so after that."""
    pipe = of_blocks(ZImageAutoBlocks(), "z_image")
    pipe.update_components(guider=guiders.ClassifierFreeGuidance(guidance_scale=4.0))
    with probe.record(pipe, words=["cat"]) as recording:
        run(pipe, **more)
    trace = recording.trace
    assert trace.node("guidance").attrs["branches"] == ["cond", other]
    assert trace.run.guidance_scale == 4.0
    guided_as(trace, other, 4.0)


def test_blocks_that_encode_a_prompt_unheard_are_refused_with_the_pipeline_to_use():
    pipe = of_blocks(StableDiffusion3AutoBlocks(), "sd3")
    with pytest.raises(UnknownFamily, match="blocks of StableDiffusion3ModularPipeline.*not made of blocks"):
        probe.record(pipe).__enter__()


def test_a_guider_that_is_switched_off_has_no_scale_and_moves_nothing():
    pipe = of_blocks(ZImageAutoBlocks(), "z_image")  # its own guider is off
    with probe.record(pipe, words=["cat"]) as recording:
        run(pipe)
    node = recording.trace.node("guidance")
    assert node.attrs["method"].startswith("none: only the prompt's own branch ran")
    np.testing.assert_allclose(node["update_norm"], 0.0, atol=1e-5)
    assert recording.trace.run.guidance_scale is None


def test_the_guider_that_guided_is_named():
    """HunyuanImage has another one for prompts with letters to be drawn."""
    pipe = pipelines.load("hunyuan_image")
    pipe.ocr_guider = guiders.ClassifierFreeGuidance(guidance_scale=2.0)
    for prompt, guider, scale in (
        ("a cat", "AdaptiveProjectedMixGuidance", 4.0),
        ('a "cat"', "ClassifierFreeGuidance", 2.0),
    ):
        with probe.record(pipe, words=["cat"]) as recording:
            pipelines.run(pipe, "hunyuan_image", prompt=prompt, output_type="latent")
        assert recording.trace.node("guidance").attrs["method"] == guider
        guided_as(recording.trace, "negative", scale)
        assert recording.trace.run.guidance_scale is None  # they have two


FLOW, SAMPLE = Level("flow", 0.4, 0.6), torch.arange(16.0).reshape(1, 4, 2, 2)


@pytest.mark.parametrize("made", [lambda x: x, lambda x: -x, lambda x: SAMPLE - FLOW.sigma * x, lambda x: 3 * x + 1])
def test_what_a_guider_combines_is_told_by_what_the_scheduler_is_given(made: Callable[[torch.Tensor], torch.Tensor]):
    """As it is, turned round, or as clean latents, which LTX-2 guides; what is made in another way is not compared."""
    said = {"cond": torch.ones(1, 4, 2, 2), "uncond": torch.full((1, 4, 2, 2), 0.5)}
    combined = Combined("Guider", {b: made(x) for b, x in said.items()}, made(2 * said["cond"]))
    form = combined.form(2 * said["cond"], FLOW, SAMPLE)
    if form is None:
        assert torch.equal(made(SAMPLE), 3 * SAMPLE + 1)
        return
    for branch, value in said.items():
        torch.testing.assert_close(FORMS[form](combined.branches[branch], FLOW, SAMPLE), value)


def test_of_a_guider_s_zeros_nothing_is_told_of_later_steps():
    reader = GuidanceReader(scheduler=None)
    zeros = torch.zeros_like(SAMPLE)
    for result, form in ((zeros, None), (-SAMPLE, "negative")):
        reader.combines(Combined("Guider", {}, result))
        reader._said(-result, FLOW, SAMPLE)
        assert reader.form == form
    assert reader.guiders == ["Guider"]


@pytest.mark.parametrize(
    ("made", "compared"),
    [
        (lambda cfg, x: cfg, True),
        (lambda cfg, x: torch.tensor([0.7, 1.3])[:, None, None, None] * cfg, True),  # rescaled, picture by picture
        (lambda cfg, x: cfg + 0.1 * x.flip(2), True),  # something of its own, but not of the latents
        (lambda cfg, x: 0.3 * cfg + 0.4 * x, False),  # Karras' preconditioning, as Cosmos has it
    ],
)
def test_branches_of_a_pipeline_that_mixes_the_latents_in_are_not_compared(made: Any, compared: bool):
    drawn = torch.Generator().manual_seed(0)
    cond, uncond, x = (torch.randn(2, 4, 8, 12, generator=drawn) for _ in range(3))
    reader = GuidanceReader(pipelines.load("sd1").scheduler)
    reader.scheduler.set_timesteps(2)
    for branch, rows in (("cond", cond), ("uncond", uncond)):
        for image, row in enumerate(rows):
            reader.saw(branch, image, row)
    reader.stepped(made(uncond + 5 * (cond - uncond), x), reader.scheduler.timesteps[0], x)
    reader.finish()
    assert ("cond_norm" in reader.rows[0], bool(reader.branches[0])) == (compared, compared)
    assert "guided_norm" in reader.rows[0]
