"""Pipelines of pictures that nobody prepared for: exact, rightly labelled readings, or an error with a way out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    IFPipeline,
    MarigoldDepthPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    StableCascadePriorPipeline,
    StableDiffusionGLIGENPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.models import StableCascadeUNet

import probe
from probe.attach.kept.passes import Pass
from probe.attach.model.families import FAMILIES, Family, denoisers
from probe.attach.model.infer import Joins, settled
from probe.attach.model.layout import Plane, check_plane
from probe.attach.text.hearing import Encoded, Heard
from probe.errors import ProbeWarning, RecordingError, UnknownFamily
from tests.attach.looking import SPECIAL, checking, softmax64
from tests.attach.model.unprepared import first_steps, run, together_and_alone, untouched
from tests.fingerprint import hooks, modules_of
from tests.pipelines import dit, parts, unet
from tests.pipelines.kandinsky import BESIDE
from tests.pipelines.parts import Maker, options
from tests.pipelines.unlisted import UNLISTED
from tests.tokenizers import clip_tokenizer, t5_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
PLACES = {  # family: sites, their kind, grid, the first column of the prompt's words
    "bria": (4, "joint", (8, 12), 0),
    "bria_fibo": (4, "joint", (4, 6), 1),
    "cogview3": (2, "joint", (8, 12), 0),
    "ernie": (2, "joint", (8, 12), 1),
    "kandinsky5": (2, "cross", (4, 6), 92),
    "krea2": (2, "joint", (8, 12), 78),
    "longcat": (4, "joint", (8, 12), 0),
    "lumina": (2, "cross", (4, 6), 2),
    "ovis": (4, "joint", (8, 12), 74),
}


@pytest.mark.parametrize("name", UNLISTED)
def test_a_family_that_nobody_prepared_for(name: str):
    sites, kind, grid, first = PLACES[name]
    trace, checks = untouched(UNLISTED[name])
    assert [(site.kind, site.grid) for site in trace.sites] == [(kind, grid)] * sites
    assert max(checks.errors.values()) < 1e-6
    (node,) = trace.attention_nodes()
    assert np.allclose(node["attention"].sum("word"), 1, atol=1e-5)
    spoken = [token for token in trace.tokens if token.special is None]
    assert [token.index for token in spoken] == list(range(first, first + 6))


@pytest.mark.parametrize("name", UNLISTED)
def test_without_guidance_the_first_step_of_cond_is_the_same(name: str):
    assert np.allclose(*first_steps(UNLISTED[name]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in UNLISTED if name != "kandinsky5"])  # it attends to its padding
def test_two_prompts_in_one_call_read_as_each_alone(name: str):
    for together, alone in together_and_alone(UNLISTED[name]):
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def sana_sprint() -> DiffusionPipeline:
    """Sana Sprint: distilled to a consistency model in trigonometric time."""
    made = dit.sana().components
    told = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
    shape = {name: value for name, value in made["transformer"].config.items() if not name.startswith("_")}
    denoiser = parts.denoiser(SanaTransformer2DModel, **shape | told)
    return parts.assembled(SanaSprintPipeline, **made | {"transformer": denoiser, "scheduler": SCMScheduler()})


def test_a_consistency_model_in_trigonometric_time():
    pipe: Any = sana_sprint()
    maker = Maker(sana_sprint, options(max_sequence_length=32, use_resolution_binning=False, output_type="latent"))
    plain = run(pipe, maker)
    with probe.record(pipe, ["cat", "<start>"]) as recording:
        recorded = run(pipe, maker)
    assert torch.equal(plain, recorded)
    guidance, latents = recording.trace.node("/guidance"), recording.trace.node("/latents")
    assert "cond_norm" not in guidance  # the pipeline makes of the denoiser's output what the scheduler is given
    assert guidance.attrs["method"].startswith("distilled")
    predicted = latents["predicted"][-1].values / pipe.scheduler.config.sigma_data
    np.testing.assert_allclose(predicted, plain.numpy(), rtol=2e-3, atol=2e-3)


def deepfloyd() -> DiffusionPipeline:
    """DeepFloyd IF: the keys of the text and of the picture side by side in one attention of a UNet over pixels."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        UNet2DConditionModel,
        in_channels=3,
        out_channels=6,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        **BESIDE,
    )
    rest = {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    return parts.assembled(
        IFPipeline,
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer),
        unet=denoiser,
        scheduler=DDPMScheduler(variance_type="learned_range"),
        **rest,
    )


def test_padding_beside_the_keys_of_the_picture_is_not_all_that_words_leave_over():
    pipe: Any = deepfloyd()
    maker = Maker(deepfloyd, options(clean_caption=False, height=16, width=24))
    with checking() as checks, probe.record(pipe, ["*", *SPECIAL]) as recording:
        run(pipe, maker)
    (node,) = recording.trace.attention_nodes()
    call, current = checks.calls[0]
    whole = softmax64(call)[1].mean(0)[:, : current.text].sum(-1)  # of cond, behind uncond: [n]
    first = node["attention"].isel(site=0, step=0, branch=0, image=0)
    np.testing.assert_allclose(first.sum("word").values.ravel(), whole, atol=1e-5)
    assert whole.max() < 0.99


def gligen() -> DiffusionPipeline:
    """GLIGEN: cells attend among themselves and the tokens of boxes, between the attentions of Stable Diffusion."""
    return parts.assembled(StableDiffusionGLIGENPipeline, **unet.sd_parts(attention_type="gated"))


def test_cells_among_the_tokens_of_boxes_are_no_site_of_words():
    pipe: Any = gligen()
    boxes = {"gligen_phrases": ["a cat"], "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]], "gligen_scheduled_sampling_beta": 1}
    maker = Maker(gligen, options(**boxes))
    plain = run(pipe, maker)
    with checking() as checks, probe.record(pipe, ["cat"]) as recording:
        recorded = run(pipe, maker)
    assert np.array_equal(plain, recorded)
    paths = {site.path for site in recording.trace.sites}
    assert len(paths) == 7
    assert all(path.endswith("attn2") for path in paths)
    assert any("fuser" in call.path for call, _ in checks.calls)


@pytest.mark.parametrize(("parts_", "behind"), [((96, 232), True), ((200, 32, 96), False), ((48, 48, 232), True)])
def test_where_the_keys_of_the_text_are_beside_those_of_the_picture(parts_: tuple[int, ...], behind: bool):
    joins, family = Joins(), Family("A", "unknown", (), inferred=True)
    current = Pass("transformer", 0, (), Plane(1, 8, 12, 96), 232, (232,))
    joins.parts[328] = parts_
    found, _ = settled(family, 96, 328, current, joins)
    assert (found.text, found.behind) == ("cross", behind)
    with pytest.raises(UnknownFamily, match="which of the 328 keys are the 232 of the text was not seen"):
        settled(family, 96, 328, current, Joins())


def test_a_denoiser_of_another_name_is_known_by_its_class(monkeypatch: pytest.MonkeyPatch):
    tokenizer = clip_tokenizer()
    made = {
        "tokenizer": tokenizer,
        "text_encoder": parts.clip_projected(tokenizer),
        "scheduler": DDPMWuerstchenScheduler(),
    }
    shape: dict[str, Any] = {"conditioning_dim": 32, "block_out_channels": (32, 32), "num_attention_heads": (2, 2)}
    layers = {"down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1), "switch_level": (False,)}
    prior = parts.seeded(
        StableCascadeUNet, clip_text_in_channels=32, clip_text_pooled_in_channels=32, **shape, **layers
    )
    pipe = StableCascadePriorPipeline(**made, prior=prior)
    with (
        pytest.raises(UnknownFamily, match=r"(?s)its parts are prior \(StableCascadeUNet\).*five lines"),
        probe.record(pipe),
    ):
        pass
    monkeypatch.setitem(FAMILIES, "StableCascadeUNet", Family("Stable Cascade", "cross", ()))
    assert list(denoisers(pipe)) == ["prior"]


def unconditional() -> DiffusionPipeline:
    """DDPM: no text at all."""
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    denoiser = parts.seeded(UNet2DModel, sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, **blocks)
    return DDPMPipeline(unet=denoiser, scheduler=DDPMScheduler())


def of_a_class() -> DiffusionPipeline:
    """DiT: a class in the place of a text."""
    shape = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8}
    denoiser = parts.seeded(DiTTransformer2DModel, sample_size=16, patch_size=4, **shape)
    return parts.assembled(DiTPipeline, transformer=denoiser, vae=parts.vae(), scheduler=DDPMScheduler())


def of_depth() -> DiffusionPipeline:
    """Marigold: depth from a picture; it reads an empty text."""
    made = unet.sd_parts(in_channels=8)
    kept = {name: made[name] for name in ("unet", "vae", "scheduler", "text_encoder", "tokenizer")}
    return MarigoldDepthPipeline(**kept)


@pytest.mark.parametrize("make", [unconditional, of_a_class, of_depth])
def test_a_pipeline_that_encodes_no_prompt_is_refused_at_once(make: Callable[[], DiffusionPipeline]):
    pipe = make()
    with pytest.raises(UnknownFamily, match=f"{type(pipe).__name__} has no method encode_prompt"), probe.record(pipe):
        pass
    assert hooks(*modules_of(pipe)) == 0


@pytest.mark.parametrize("words", [[], ["cat"]])
def test_relations_among_cells_alone(words: list[str]):
    maker = UNLISTED["cogview3"]
    pipe: Any = maker.make()
    with (
        pytest.warns(ProbeWarning, match="inferred"),
        probe.record(pipe, words, relations=["image->image"]) as recording,
    ):
        run(pipe, maker)
    assert any(path.startswith("/relations/image_to_image") for path in recording.trace.tree.groups)


def test_several_pictures_at_once_are_refused():
    """Layers of one picture, or a row of examples beside the one that is drawn."""
    check_plane(torch.zeros(1, 96, 4), Plane(1, 8, 12, 96))
    with pytest.raises(RecordingError, match=r"steps 288 tokens, .* has 8 x 12 cells: it draws several pictures"):
        check_plane(torch.zeros(1, 288, 4), Plane(1, 8, 12, 96))


def test_texts_under_other_names_are_refused():
    """As DreamLite's, which gives [negative, prompt] as `prompts`."""
    heard = [Heard("text_encoder", (1, 2), None)] * 2
    with pytest.raises(RecordingError, match=r"read 2 rows, .* encode_prompt got prompts=\('', 'a cat'\)\. Record a"):
        Encoded().note({"prompts": ("", "a cat"), "image": None}, [], heard)
    for given in ({"prompt": None}, {"mode": "t2i", "prompt_embeds": torch.zeros(1, 2, 3)}):
        Encoded().note(given, [], heard[:1])
