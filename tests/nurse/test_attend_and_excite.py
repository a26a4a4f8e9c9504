"""Attend-and-Excite: its constants against hand-computed figures, its trajectory against the diffusers port."""

import warnings

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionAttendAndExcitePipeline

import probe
from probe.errors import BadInput, NoMatch, NoSuchWord, RecordingError
from probe.intervention import Maps, Score
from probe.nurse import AttendAndExcite
from probe.nurse.maps import kernel, sharpen, smooth
from tests import pipelines

PROMPT = "a cat and a balloon"
CALL = {"height": 64, "width": 96, "num_inference_steps": 8, "guidance_scale": 5.0, "output_type": "latent"}
THRESHOLDS = {0: 0.05, 3: 0.5, 5: 0.8}


def noise(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pipe():
    pipe = pipelines.load("sd1")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def test_the_kernel_is_that_of_the_released_code():
    k = kernel()
    assert k[1, 1] == pytest.approx(0.33191, abs=1e-5)
    assert k[0, 1] == pytest.approx(0.12210, abs=1e-5)
    assert k[0, 0] == pytest.approx(0.04492, abs=1e-5)
    assert k.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("cell", "read", "value"),
    [((8, 8), (8, 8), 0.33191), ((1, 8), (0, 8), 0.24421), ((1, 1), (0, 0), 0.17968)],
)
def test_one_hot_cell_with_reflection_at_the_border(cell, read, value):
    plane = torch.zeros(16, 16)
    plane[cell] = 1.0
    assert smooth(plane)[read] == pytest.approx(value, abs=1e-5)


def test_step_sizes_of_code_and_paper():
    code = AttendAndExcite(subjects=("cat",))
    sizes = {i: code.step_size(i, 51) for i in (0, 10, 20, 24, 25, 50)}
    assert sizes == pytest.approx({0: 20.0, 10: 18.974, 20: 17.889, 24: 17.436, 25: 17.321, 50: 14.142}, abs=1e-3)
    paper = AttendAndExcite(subjects=("cat",), linear=True)
    assert paper.step_size(25, 51) == pytest.approx(15.0)


def test_uniform_attention_over_75_tokens():
    maps = Maps(torch.full((16, 16, 77), 1 / 77), {"cat": (2,), "dog": (5,)}, 6)
    score = AttendAndExcite(subjects=("cat", "dog")).score(maps)
    assert float(score.loss) == pytest.approx(0.986667, abs=1e-6)
    assert score.subjects["cat"] == pytest.approx(1 / 75, abs=1e-6)


def test_two_tokens_after_the_sharpening_softmax():
    A = torch.zeros(1, 1, 77)
    A[..., 2], A[..., 5] = 0.30, 0.29
    sharp = sharpen(A)[0, 0]
    assert sharp[1] == pytest.approx(0.731059, abs=1e-4)


def test_end_normalisation_leaves_out_end_and_padding():
    assert sharpen(torch.rand(4, 4, 77), end=6).shape == (4, 4, 5)
    assert sharpen(torch.rand(4, 4, 77)).shape == (4, 4, 75)


def by_the_port(pipe, positions: list[int], **call) -> list[torch.Tensor]:
    """The latents after each step of diffusers' deprecated pipeline, around the same parts."""
    found: list[torch.Tensor] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        port = StableDiffusionAttendAndExcitePipeline(
            **{name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "unet")},
            scheduler=DDIMScheduler.from_config(pipe.scheduler.config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        port.set_progress_bar_config(disable=True)
        port(
            token_indices=positions,
            generator=noise(),
            callback=lambda step, timestep, latents: found.append(latents.clone()),
            **call,
        )
    return found


def by_probe(pipe, nurse: AttendAndExcite, **call) -> tuple[list[torch.Tensor], list[dict]]:
    """(the latents after each step by us, what the trace says of the nursing)."""
    found: list[torch.Tensor] = []

    def keep(pipe, step, timestep, tensors):
        found.append(tensors["latents"].clone())
        return tensors

    with probe.record(pipe, interventions=[nurse]) as recording:
        pipe(generator=noise(), callback_on_step_end=keep, **call)
    return found, recording.trace.extra["nursing"]


def test_follows_the_diffusers_port_at_every_step(pipe):
    call = CALL | {"prompt": PROMPT}
    theirs = by_the_port(pipe, [2, 5], max_iter_to_alter=6, thresholds=THRESHOLDS, attn_res=(16, 24), **call)
    nurse = AttendAndExcite(subjects=("cat", "balloon"), max_steps=6, thresholds=THRESHOLDS, resolution=(16, 24))
    ours, nursing = by_probe(pipe, nurse, **call)
    assert len(ours) == len(theirs) == 8
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < 1e-4
    assert [entry["step"] for entry in nursing] == [0, 1, 2, 3, 4, 5]
    first = nursing[0]["losses"]
    assert 2 <= len(first) <= 21 and first[-1] < first[0]  # at most 20 refinements, each forward pass used once


def test_follows_the_port_on_menagerie_too():
    pipe = probe.load()
    pipe.set_progress_bar_config(disable=True)
    limits = {0: 0.3, 2: 0.5}
    call = {"prompt": "a cat and a dog", "num_inference_steps": 5, "guidance_scale": 5.0, "output_type": "latent"}
    call |= {"height": 128, "width": 128}
    theirs = by_the_port(pipe, [2, 5], max_iter_to_alter=4, thresholds=limits, attn_res=(16, 16), **call)
    nurse = AttendAndExcite(subjects=("cat", "dog"), max_steps=4, thresholds=limits, resolution=(16, 16))
    ours, nursing = by_probe(pipe, nurse, **call)
    assert max(len(entry["losses"]) for entry in nursing) > 1  # it was refined
    apart = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True)]
    assert max(apart) < 1e-4  # of the largest latent, which is 4.6; the port's plain passes round otherwise than ours


def test_strength_zero_is_bit_identical(pipe):
    plain = pipe(PROMPT, generator=noise(), **CALL).images
    with probe.record(pipe, interventions=[AttendAndExcite(subjects=("cat",), strength=0.0)]):
        nursed = pipe(PROMPT, generator=noise(), **CALL).images
    assert torch.equal(plain, nursed)


def test_an_altered_picture_moves_and_weights_get_their_gradients_back(pipe):
    plain = pipe(PROMPT, generator=noise(), **CALL).images
    flags = [p.requires_grad for p in pipe.unet.parameters()]
    with probe.record(pipe, interventions=[AttendAndExcite(subjects=("cat",), max_steps=2, thresholds={})]):
        nursed = pipe(PROMPT, generator=noise(), **CALL).images
    assert not torch.equal(plain, nursed)
    assert flags == [p.requires_grad for p in pipe.unet.parameters()]
    assert all(p.grad is None for p in pipe.unet.parameters())


def test_several_pictures_are_nursed_each_on_its_own(pipe):
    nurse = AttendAndExcite(subjects=("cat",), max_steps=2, thresholds={})
    with probe.record(pipe, interventions=[nurse]):
        both = pipe(PROMPT, generator=[noise(3), noise(4)], num_images_per_prompt=2, **CALL).images
    with probe.record(pipe, interventions=[nurse]):
        one = pipe(PROMPT, generator=noise(4), **CALL).images
    np.testing.assert_allclose(both[1].numpy(), one[0].numpy(), atol=2e-4)


def test_bad_subjects_and_resolutions_say_what_there_is(pipe):
    with pytest.raises(BadInput, match="no subjects"):
        probe.record(pipe, interventions=[AttendAndExcite()])
    with (
        pytest.raises(NoSuchWord, match="its words are: a, cat"),
        probe.record(pipe, interventions=[AttendAndExcite(subjects=("dog",))]),
    ):
        pipe(PROMPT, generator=noise(), **CALL)
    with (
        pytest.raises(NoMatch, match="16 x 24"),
        probe.record(pipe, interventions=[AttendAndExcite(subjects=("cat",), resolution=(7, 7))]),
    ):
        pipe(PROMPT, generator=noise(), **CALL)


class NotANumber(AttendAndExcite):
    def score(self, maps: Maps) -> Score:
        return Score(maps.A.sum() * float("nan"))


def test_a_loss_that_is_no_number_stops_with_the_remedy(pipe):
    with (
        pytest.raises(RecordingError, match="lower scale_factor"),
        probe.record(pipe, interventions=[NotANumber(subjects=("cat",))]),
    ):
        pipe(PROMPT, generator=noise(), **CALL)
