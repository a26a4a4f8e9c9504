"""The trial: what holds for a model of every kind is found to hold, and what does not is said, whatever it is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import probe
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.budget import Estimate
from probe.attach.recording import Recording
from probe.checkup import trial
from probe.checkup.trial import Trial, arguments, attempt
from probe.errors import BadInput, ProbeWarning
from probe.trace import Trace
from tests import pipelines
from tests.factories import make_trace

SMALL = {"height": pipelines.HEIGHT, "width": pipelines.WIDTH}
TRIED = ("sd1", "sdxl", "sd3", "flux1", "pixart_sigma", "wan", "lumina2")
PICTURED = ("sd1_img2img", "sd1_inpaint", "instruct_pix2pix", "sdxl_controlnet")


@cache
def tried(family: str) -> Trial:
    """The trial of a tiny pipeline, called as the doctor calls any."""
    size = {"max_sequence_length": 32} if family in ("sd3", "flux1") else {}
    return attempt(pipelines.pipeline(family), SMALL | size)


@pytest.mark.parametrize("family", TRIED)
def test_models_of_every_kind_hold(family: str):
    found = tried(family)
    assert found.problems == ()
    assert found.words == ("a", "cat", "and", "a#2", "red", "balloon") and found.lost == ()
    assert found.identical and found.returned and found.excess < 1e-5
    assert found.estimate == pytest.approx(found.held, rel=0.1)
    assert set(found.branches) == ({"cond"} if family == "flux1" else {"cond", "uncond"})
    assert found.steps == trial.STEPS and 0 < found.sites <= found.modules


@pytest.mark.parametrize("family", PICTURED)
def test_pipelines_that_begin_with_a_picture_are_given_one(family: str):
    pipe = pipelines.pipeline(family)
    call = arguments(pipe)
    assert call["image"].size == (64, 64)
    assert ("mask_image" in call) == family.endswith("inpaint")
    found = attempt(pipe, {})
    assert found.problems == () and found.sites > 0


@pytest.mark.filterwarnings("ignore:`callback_steps` is deprecated:FutureWarning")
def test_a_model_without_text_says_so():
    found = attempt(pipelines.pipeline("kandinsky22"), SMALL)
    assert (found.sites, found.words, found.reads, found.problems) == (0, (), False, ())


def test_the_verdict_can_be_pasted():
    found = probe.doctor(pipelines.pipeline("sd1"), **SMALL)
    assert found.ok and str(found).endswith("verdict     all well")
    said = str(found)
    assert "StableDiffusionPipeline (UNet), float32" in said
    assert "7 of 14 attention modules read the text, at each of 2 steps" in said
    assert "uncond, cond; guidance: classifier-free guidance" in said
    assert "identical to the bit" in said and "a, cat, and, a#2, red, balloon; together 1 within" in said


def test_a_folder_and_menagerie_are_tried(tmp_path: Any):
    pipelines.pipeline("sd1").save_pretrained(tmp_path)
    assert probe.doctor(str(tmp_path), **SMALL).ok
    menagerie = probe.doctor("menagerie")
    assert menagerie.ok and menagerie.trial is not None and menagerie.trial.model == "menagerie"


def test_a_model_that_is_not_in_the_table_is_tried_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(probe.attach.model.families.FAMILIES, "SD3Transformer2DModel")
    with pytest.warns(ProbeWarning, match="its layout was inferred"):
        found = attempt(pipelines.pipeline("sd3"), SMALL | {"max_sequence_length": 32})
    assert found.inferred and found.problems == () and found.sites == 2
    assert "inferred from its modules: it is not in the table" in str(found)


# What does not hold


def test_a_model_that_cannot_be_recorded_is_a_finding():
    pipe = pipelines.load("sd1")
    pipe.enable_attention_slicing(1)
    found = probe.doctor(pipe, **SMALL)
    assert not found.ok and found.trial is None
    assert "StableDiffusionPipeline cannot be recorded: MissingReadings: 14 of 14" in str(found)
    assert "disable_attention_slicing" in str(found)


def test_a_call_that_the_pipeline_does_not_take_is_an_error():
    with pytest.raises(BadInput, match=r"cannot be called with prompt, .*, wings: .*probe.doctor\(pipe, image=...\)"):
        probe.doctor(pipelines.pipeline("flux1"), wings=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_inference_steps": 0}, "ZeroDivisionError: .* by zero. Give what it needs"),
        ({"num_inference_steps": 5000}, "ValueError: .*5000 cannot be larger"),
        ({"height": 33}, "ValueError: .* divisible by 8"),
        ({"prompt": {}}, "ValueError: `prompt` has to be of type"),
        ({"width": -8}, "RuntimeError: .*negative dimension"),
        ({"generator": 0}, "^generator: both runs of a trial are drawn from seed 0.*leave it out$"),
    ],
)
def test_whatever_a_pipeline_says_of_its_call_is_passed_on(given: dict[str, Any], said: str):
    with pytest.raises(BadInput, match=said) as refused:
        probe.doctor(pipelines.pipeline("sd1"), **SMALL | given)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("error", [IndexError("list index out of range"), KeyError("adapter"), ValueError("x " * 5000)])
def test_errors_of_any_kind_from_the_call_are_told_shortly(error: Exception, monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.load("sd1")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(pipe, "check_inputs", fail)
    with pytest.raises(
        BadInput, match=f"cannot be called with prompt, .*: {type(error).__name__}: .{{1,300}} Give what"
    ):
        attempt(pipe, SMALL)


def shifted(patch: pytest.MonkeyPatch) -> None:
    """Recording moves the latents by a hair."""
    step = Recording._step

    def moved(self: Recording, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = step(self, original, args, kwargs)
        return (result[0] * (1 + 1e-6), *result[1:])

    patch.setattr(Recording, "_step", moved)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """A hook stays behind."""
    leave = Recording.__exit__

    def left(self: Recording, *told: Any) -> None:
        self._pipe.unet.mid_block.register_forward_hook(lambda *_: None)
        leave(self, *told)

    patch.setattr(Recording, "__exit__", left)


def doubled(patch: pytest.MonkeyPatch) -> None:
    """Readings twice as large as they are."""
    maps = AttentionReader._maps
    patch.setattr(AttentionReader, "_maps", lambda *given: tuple(None if x is None else 2 * x for x in maps(*given)))


def wrong(patch: pytest.MonkeyPatch) -> None:
    """An estimate that is half of what is held."""
    total = Estimate.total.fget
    patch.setattr(Estimate, "total", property(lambda self: total(self) // 2))


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "recording changed the picture": shifted,
    "recording left hooks, processors or flags behind": forgetful,
    "the words of a cell add up to 1 only within 1.0e+00": doubled,
    "is 50% off": wrong,
}


@pytest.mark.parametrize(("said", "fault"), FAULTS.items())
def test_every_fault_becomes_the_verdict(said: str, fault: Callable[[pytest.MonkeyPatch], None]):
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        found = probe.doctor(pipelines.load("sd1"), **SMALL)
    assert not found.ok and len(found.problems) == 1
    assert said in found.problems[0] and said in str(found).splitlines()[-1]


def without(trace: Trace, word: str) -> Trace:
    """The trace with NaN for a word at its finest sites."""
    node = trace.tree["attention/16x16"].to_dataset().copy(deep=True)
    node["attention"].loc[{"word": word}] = np.nan
    tree = trace.tree.copy()
    tree["attention/16x16"] = xr.DataTree(node)
    return replace(trace, tree=tree)


def test_a_word_without_readings_is_lost():
    trace = make_trace()
    assert trial.has_readings(trace, "cat")
    assert not trial.has_readings(without(trace, "cat"), "cat")
    assert not trial.has_readings(trace, "zebra")
    found = replace(tried("sd1"), lost=("cat",))
    assert found.problems == ("no readings of cat",)


def test_a_model_that_reads_nothing_is_no_model_that_holds():
    assert replace(tried("sd1"), sites=0).problems == ("no attention module reads the text",)


def test_half_precision_may_round(monkeypatch: pytest.MonkeyPatch):
    found = attempt(pipelines.load("sd1", dtype=torch.bfloat16), SMALL)
    assert found.dtype == "bfloat16" and found.problems == ()
    assert replace(found, excess=0.01).problems == ()
    assert replace(tried("sd1"), excess=0.01).problems != ()


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No trial leaves a mode on torch."""
    yield
    assert torch._C._len_torch_function_stack() == 0
