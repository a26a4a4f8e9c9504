"""Existing pictures: noised as the formula says, inverted through the pipeline's own loop, everything given back."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

import probe
from probe.attach.image.picture import drawn, encoded, fitted, psnr
from probe.attach.kept.thumbnails import home
from probe.attach.model.families import family
from probe.attach.model.layout import Plane, packed, unpacked
from probe.errors import AlreadyRecording, BadInput, NoSuchWord, NotAPipeline
from probe.generator.world import World
from tests import pipelines
from tests.fingerprint import fingerprint
from tests.pipelines.parts import PROMPT, picture

FAMILIES = ["sd1", "sdxl", "sd3", "flux1"]
STEPS = [900, 300]


def ran(name: str) -> tuple[Any, dict[str, object]]:
    """A pipeline that has run before (what it sets itself the first time is not ours), and its fingerprint."""
    pipe = pipelines.pipeline(name)
    pipelines.run(pipe, name, num_inference_steps=1)
    return pipe, fingerprint(pipe)


def levels(pipe: Any, t: int) -> tuple[float, float]:
    """(alpha, sigma) of a timestep, from the definition."""
    if "FlowMatch" in type(pipe.scheduler).__name__:
        return 1 - t / 1000, t / 1000
    abar = float(pipe.scheduler.alphas_cumprod[t])
    return abar**0.5, (1 - abar) ** 0.5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_noised_picture_is_seen_once_at_each_level(name: str):
    pipe, before = ran(name)
    trace = probe.record_image(pipe, picture(), PROMPT, steps=STEPS, seed=3)
    assert fingerprint(pipe) == before
    z = encoded(picture(), pipe.vae).double()
    size = packed(z, family(pipe)).shape
    eps = torch.randn(size, generator=torch.Generator().manual_seed(3)).double()
    eps = unpacked(eps, Plane(1, size[1] // 12, 12, size[1]), family(pipe)) if len(size) == 3 else eps
    latents = trace.node("latents")["latents"].values
    for i, t in enumerate(STEPS):
        alpha, sigma = levels(pipe, t)
        np.testing.assert_allclose(latents[i], alpha * z + sigma * eps, rtol=2e-3, atol=2e-3)
        assert float(trace.node("scheduler")["sigma"][i]) == pytest.approx(sigma, rel=1e-5)
    np.testing.assert_allclose(latents[-1], z, rtol=2e-3, atol=2e-3)
    assert trace.run.timesteps == tuple(STEPS) and trace.run.seed == 3
    assert np.array_equal(trace.pictures[0], picture())
    report = trace.extra["image"]
    assert report["method"] == "noise" and report["timesteps"] == STEPS
    assert report["vae_psnr"] == pytest.approx(psnr(picture(), drawn(encoded(picture(), pipe.vae), pipe.vae)))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_inverted_picture_is_generated_again(name: str):
    pipe, before = ran(name)
    trace = probe.record_image(pipe, picture(), PROMPT, method="invert", steps=2, modules=["*.ff"])
    assert fingerprint(pipe) == before
    with probe.record(pipe, modules=["*.ff"]) as recording:
        pipelines.run(pipe, name)
    own = recording.trace
    assert [site.path for site in trace.sites] == [site.path for site in own.sites] and trace.labels == own.labels
    assert set(trace.tree["modules"].children) == set(own.tree["modules"].children)
    assert trace.run.steps == 2 and trace.pictures[0].size == picture().size
    report, last = trace.extra["image"], trace.node("latents")["latents"].values[-1]
    z = encoded(picture(), pipe.vae).numpy()
    assert report["psnr"] == pytest.approx(psnr(picture(), trace.pictures[0]))
    assert report["latent_rmse"] == pytest.approx(float(np.sqrt(((last - z) ** 2).mean())), rel=1e-3)


def test_menagerie_comes_back_closer_with_more_steps():
    pipe, world = probe.load(), World(5)
    scene = world.scene(0)
    text = world.caption(scene).text
    traces = [probe.record_image(pipe, scene.picture, text, method="invert", steps=n) for n in (5, 30)]
    few, many = (trace.extra["image"] for trace in traces)
    assert many["latent_rmse"] < few["latent_rmse"] / 2
    assert few["psnr"] < many["psnr"] < many["vae_psnr"] + 1


def test_guidance_runs_where_it_is_asked_for():
    pipe = pipelines.pipeline("sd1")
    seen = probe.record_image(pipe, picture(), PROMPT, steps=[500], call={"negative_prompt": "a dog"})
    assert "difference_norm" in seen.node("guidance") and seen.run.negative_prompts == ("a dog",)
    alone = probe.record_image(pipe, picture(), PROMPT, steps=[500], guidance_scale=1.0)
    assert "difference_norm" not in alone.node("guidance")
    again = probe.record_image(pipe, picture(), PROMPT, steps=[500], guidance_scale=1.0)
    assert again.tree.identical(alone.tree)


def test_steps_are_spread_over_all_levels():
    trace = probe.record_image(pipelines.pipeline("sd1"), picture(), PROMPT, steps=4, words=["cat"])
    assert trace.extra["image"]["timesteps"] == [875, 625, 375, 125] and trace.labels == ("cat",)


def test_an_error_gives_everything_back():
    pipe, before = ran("sd1")
    for method in ("noise", "invert"):
        with pytest.raises(NoSuchWord, match="dog"):
            probe.record_image(pipe, picture(), PROMPT, method=method, steps=1, words=["dog"])
        assert fingerprint(pipe) == before


@pytest.mark.parametrize("name", ["sd1_img2img", "wan", "kandinsky22", "qwen_image"])
def test_pipelines_that_cannot_take_a_picture_in_say_why(name: str):
    with pytest.raises(NotAPipeline, match=r"probe\.record"):
        probe.record_image(pipelines.pipeline(name), picture(), PROMPT)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "guess"}, "is not one of noise, invert"),
        ({"steps": [1000]}, r"steps=\[1000\]: expected timesteps between 1 and 999"),
        ({"steps": []}, "timesteps between 1 and 999"),
        ({"steps": 0}, "steps=0: expected timesteps between 1 and 999"),
        ({"steps": "5"}, "steps='5': expected timesteps"),
        ({"steps": 2.0}, r"steps=2.0: expected .*steps=\[800, 500, 200\]"),
        ({"steps": [1.5]}, r"steps=\[1.5\]: expected .* or how many of them: steps=10"),
        ({"steps": True}, "steps=True: expected"),
        ({"steps": 5000}, "^steps=5000: expected .{,120}$"),
        ({"steps": list(range(2000))}, "^steps=.{,50}: expected .{,120}$"),
        ({"steps": [3], "method": "invert"}, "takes a number of steps"),
        ({"steps": 0, "method": "invert"}, "steps=0: an inversion takes a number of steps from 1 to 999"),
        ({"steps": -1, "method": "invert"}, "steps=-1: an inversion takes"),
        ({"steps": 1000, "method": "invert"}, "steps=1000: an inversion takes"),
        ({"steps": True, "method": "invert"}, "steps=True: an inversion takes"),
        ({"seed": "a"}, "seed='a': expected a whole number"),
        ({"seed": 2**64}, "seed=18446744073709551616: expected a whole number of up to 64 bits"),
        ({"guidance_scale": "x"}, "guidance_scale='x': expected a number"),
        ({"prompt": [PROMPT]}, "expected one text"),
        ({"image": np.zeros((64, 64, 3))}, r"image is ndarray \[64, 64, 3\]; expected .*fromarray"),
        ({"image": None}, "image is NoneType; expected a picture of PIL, or the path"),
        ({"image": "nowhere.png"}, "image='nowhere.png' cannot be read .*No such file.*give a PNG or JPEG"),
        ({"call": [3]}, r"call=\[3\]: expected the pipeline's own arguments by name"),
        ({"call": {"prompt": "a cat"}}, r"call=\['prompt'\]: give record_image's own prompt, and leave 'prompt' out"),
        ({"call": {"latents": 0}}, "they are made of the image"),
        ({"call": {"num_inference_steps": 7}}, "give record_image's own steps="),
        ({"call": {"num_images_per_prompt": 2}}, "one image is recorded at a time"),
        ({"call": {"output_type": "latent"}, "method": "invert"}, "the trace holds its pictures"),
        ({"call": {"height": 128}}, "resize it first"),
        ({"call": {"generator": torch.Generator()}}, "own seed="),
    ],
)
def test_bad_requests(given: dict[str, Any], said: str):
    with pytest.raises(BadInput, match=said):
        probe.record_image(**{"pipe": pipelines.pipeline("sd1"), "image": picture(), "prompt": PROMPT} | given)


def test_what_is_no_pipeline_is_refused():
    with pytest.raises(NotAPipeline, match="pipe is None; expected a pipeline"):
        probe.record_image(None, picture(), PROMPT)


def test_a_picture_may_be_named_by_its_path(tmp_path: Path):
    picture().save(tmp_path / "picture.png")
    (tmp_path / "text.png").write_text("no picture")
    pipe = pipelines.pipeline("sd1")
    given = probe.record_image(pipe, picture(), PROMPT, steps=1)
    for path in (tmp_path / "picture.png", str(tmp_path / "picture.png")):
        assert probe.record_image(pipe, path, PROMPT, steps=1).tree.identical(given.tree)
    with pytest.raises(BadInput, match=r"text\.png' cannot be read .*give a PNG or JPEG"):
        probe.record_image(pipe, tmp_path / "text.png", PROMPT)


@pytest.mark.parametrize("method", ["noise", "invert"])
def test_all_of_it_holds_the_lease(method: Literal["noise", "invert"]):
    """Another thread's recording is let be: its scheduler stays in the pipeline, and who may wait, waits for it."""
    pipe = pipelines.load("sd1")
    alone = probe.record_image(pipe, picture(), PROMPT, method=method, steps=1)
    held, done, own, found = threading.Event(), threading.Event(), pipe.scheduler, []

    def first() -> None:
        with probe.record(pipe):
            held.set()
            done.wait(20)
            found.append(pipe.scheduler is own)

    with ThreadPoolExecutor(2) as threads:
        recording = threads.submit(first)
        held.wait(20)
        with pytest.raises(AlreadyRecording, match="another thread"):
            probe.record_image(pipe, picture(), PROMPT, method=method, steps=1)
        waiting = threads.submit(probe.record_image, pipe, picture(), PROMPT, method=method, steps=1, wait=60.0)
        time.sleep(0.3)  # enough for one that does not wait to exchange the scheduler
        done.set()
        recording.result()
        assert found == [True] and waiting.result().tree.identical(alone.tree)
    assert pipe.scheduler is own


# The parts


def test_packing_is_undone_by_unpacking():
    flux = family(pipelines.pipeline("flux1"))
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    assert torch.equal(unpacked(packed(x, flux), Plane(1, 2, 3, 6), flux), x)


def test_pictures_are_cut_to_whole_cells():
    pipe = pipelines.pipeline("flux1")
    odd = Image.new("RGBA", (37, 90), (255, 0, 0, 255))
    assert fitted(odd, pipe, family(pipe)).size == (32, 88) and fitted(odd, pipe, family(pipe)).mode == "RGB"
    assert psnr(odd, odd) == math.inf


def test_a_misspelt_argument_of_the_pipeline_is_not_dropped():
    with pytest.raises(BadInput, match="'negative_promt'.*takes no such argument"):
        probe.record_image(pipelines.pipeline("sd1"), picture(), PROMPT, call={"negative_promt": "a dog"})


def test_modules_that_are_kept_elsewhere_work_at_home():
    module = torch.nn.Linear(1, 1)
    assert home(module) == torch.device("cpu")
    module._hf_hook = SimpleNamespace(execution_device="meta")
    assert home(module) == "meta"


def test_an_autoencoder_in_half_precision_comes_back_as_it_was():
    vae = pipelines.load("sdxl").vae
    expected = encoded(picture(), vae)
    vae.to(torch.float16)
    weights = {name: value.clone() for name, value in vae.state_dict().items()}
    vae.config["force_upcast"] = True
    torch.testing.assert_close(encoded(picture(), vae), expected, rtol=0.05, atol=0.05)
    assert vae.dtype == torch.float16
    assert all(torch.equal(value, weights[name]) for name, value in vae.state_dict().items())
