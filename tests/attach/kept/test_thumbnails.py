"""Thumbnails: fitted while recording, decoded when asked for, and what was made how is said."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.attach.kept.thumbnails import thumbnails
from probe.errors import BadInput, NotRecorded
from tests.factories import make_trace

STEPS = 3


@pytest.fixture(scope="module")
def pipe():
    return probe.load()


@pytest.fixture(scope="module")
def trace(pipe) -> probe.Trace:
    with probe.record(pipe, ["cat"]) as recording:
        pipe("a cat", num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0))
    return recording.trace


def test_a_picture_that_is_linear_in_the_latents_is_fitted_exactly():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    final = torch.from_numpy(np.moveaxis(picture, -1, 0)[None] / 100.0 - 1.0)
    fitted = thumbnails([final, 0 * final - 1.0], final, [Image.fromarray(picture)])
    assert fitted is not None and fitted.attrs == {"made": "fitted"}
    np.testing.assert_array_equal(fitted[0, 0], picture)
    assert (fitted[1] == 0).all()  # latents of -1 are a black picture


def test_cells_that_are_not_finite_are_black_and_fit_nothing():
    """As of a run in float16 that overflowed; the trace of it is what its user looks into."""
    rng = np.random.default_rng(0)
    picture = rng.integers(1, 256, (6, 5, 3), dtype=np.uint8)
    final = torch.from_numpy(np.moveaxis(picture, -1, 0)[None] / 100.0 - 1.0)
    final[0, 1, 2, 3] = torch.inf
    fitted = thumbnails([final, final * torch.nan], final, [Image.fromarray(picture)])
    assert fitted is not None and (fitted[0, 0, 2, 3] == 0).all() and (fitted[1] == 0).all()
    np.testing.assert_array_equal(
        np.delete(fitted[0, 0].values.reshape(-1, 3), 13, 0), np.delete(picture.reshape(-1, 3), 13, 0)
    )
    lost = thumbnails([final * torch.nan], final * torch.nan, [Image.fromarray(picture)])
    assert lost is not None and (lost == 0).all()


def test_recording_fits_at_the_latents_resolution(trace: probe.Trace):
    kept = trace.node("thumbnails")["thumbnails"]
    assert kept.shape == (STEPS, 1, 32, 32, 3)
    assert kept.attrs["made"] == "fitted"


def test_of_chosen_steps_alone(pipe, trace: probe.Trace):
    every = probe.decode_thumbnails(trace, pipe).node("thumbnails")["thumbnails"]
    some = probe.decode_thumbnails(trace, pipe, steps=[STEPS - 1, 1]).node("thumbnails")["thumbnails"]
    assert some["step"].values.tolist() == [1, STEPS - 1]
    assert np.abs(some.values.astype(int) - every.sel(step=some["step"]).values).max() <= 1  # in another batch
    with pytest.raises(NotRecorded, match=f"no latents of step {STEPS}; it has the steps 0 to {STEPS - 1}"):
        probe.decode_thumbnails(trace, pipe, steps=[0, STEPS])
    with pytest.raises(BadInput, match="steps is empty; name the steps to decode, or leave it out for all"):
        probe.decode_thumbnails(trace, pipe, steps=[])


def test_decoding_gives_what_the_autoencoder_makes_of_each_prediction(pipe, trace: probe.Trace):
    told = probe.decode_thumbnails(trace, pipe)
    kept = told.node("thumbnails")["thumbnails"]
    assert kept.shape == (STEPS, 1, 128, 128, 3) and kept.attrs["made"] == "decoded"
    assert kept["timestep"].values.tolist() == list(trace.run.timesteps)
    for step in range(STEPS):
        z = torch.from_numpy(trace.node("latents")["predicted"].values[step])
        with torch.no_grad():
            image = pipe.vae.decode(z.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor).sample
        exact = np.asarray(pipe.image_processor.postprocess(image, output_type="pil")[0], dtype=int)
        assert np.abs(exact - kept.values[step, 0]).max() <= 1
    rest = {path for path in trace.tree.groups if "thumbnails" not in path}
    assert rest == {path for path in told.tree.groups if "thumbnails" not in path}
    assert all(told.tree[path].to_dataset().identical(trace.tree[path].to_dataset()) for path in rest)


def test_large_pictures_are_shrunk_by_means(pipe, trace: probe.Trace):
    whole = probe.decode_thumbnails(trace, pipe).node("thumbnails")["thumbnails"].values.astype(float)
    small = probe.decode_thumbnails(trace, pipe, side=32).node("thumbnails")["thumbnails"].values
    means = whole.reshape(STEPS, 1, 32, 4, 32, 4, 3).mean((3, 5))
    assert small.shape == means.shape
    assert np.abs(small - means).max() <= 1


def test_too_many_cells_and_strange_latents_keep_the_fit(pipe, trace: probe.Trace):
    assert probe.decode_thumbnails(trace, pipe, cells=STEPS * 32 * 32 - 1) is trace
    assert probe.decode_thumbnails(trace, pipe, cells=STEPS * 32 * 32) is not trace
    assert probe.decode_thumbnails(trace, SimpleNamespace(vae=None), cells=None) is trace


def test_a_trace_without_latents_says_so(pipe):
    trace = make_trace()
    bare = replace(trace, tree=trace.tree.drop_nodes(["latents"], errors="ignore"))
    with pytest.raises(NotRecorded, match="holds no 'latents'"):
        probe.decode_thumbnails(bare, pipe)
