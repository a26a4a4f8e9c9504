"""Recording: the picture stays the same, everything is given back, and what comes out is right."""

import threading
from contextlib import ExitStack

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import probe
from probe.attach.kept.attention import AttentionReader
from probe.errors import AlreadyRecording, BadInput, MissingReadings, NoMatch, NoSuchWord, NotRecorded, RecordingError
from tests import pipelines
from tests.fingerprint import fingerprint


@pytest.fixture
def pipe():
    pipe = pipelines.load("sd1")
    pipelines.run(pipe, "sd1")  # what the pipeline itself sets on its first run is not ours
    return pipe


def test_recording_leaves_the_picture_and_the_pipeline_as_they_are(pipe):
    plain, before = pipelines.run(pipe, "sd1"), fingerprint(pipe)
    with probe.record(pipe) as recording:
        recorded = pipelines.run(pipe, "sd1")
    assert np.array_equal(plain, recorded)
    assert fingerprint(pipe) == before
    assert recording.trace.run.seed == 0 and recording.trace.run.steps == pipelines.STEPS


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("calls", [0, 1, 7, 13, 14, 20])
def test_an_error_at_any_attention_call_leaves_nothing_behind(pipe, monkeypatch, calls, error):
    plain, before = pipelines.run(pipe, "sd1"), fingerprint(pipe)
    original, count = AttentionReader.read, 0

    def fail(self, *args):
        nonlocal count
        if count == calls:
            raise error("injected")
        count += 1
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr("probe.attach.kept.attention.AttentionReader.read", fail)
        with pytest.raises(error, match="injected"), probe.record(pipe):
            pipelines.run(pipe, "sd1")
    assert fingerprint(pipe) == before
    assert np.array_equal(pipelines.run(pipe, "sd1"), plain)


def test_recordings_that_end_in_the_order_in_which_they_began_leave_nothing_behind(pipe):
    plain, before = pipelines.run(pipe, "sd1"), fingerprint(pipe)
    first, second = probe.record(pipe), probe.record(pipe)
    with ExitStack() as rest:
        with first:
            rest.enter_context(second)
            pipelines.run(pipe, "sd1")
        assert np.array_equal(pipelines.run(pipe, "sd1"), plain)
    assert fingerprint(pipe) == before and np.array_equal(pipelines.run(pipe, "sd1"), plain)
    assert (len(first.traces), len(second.traces)) == (1, 2)
    assert second.traces[0].tree["latents"].identical(second.traces[1].tree["latents"])


def test_a_recording_is_entered_once(pipe):
    plain, before = pipelines.run(pipe, "sd1"), fingerprint(pipe)
    with pytest.raises(RecordingError, match=r"entered before.*make another"), probe.record(pipe) as twice, twice:
        pytest.fail("entered twice")
    assert fingerprint(pipe) == before
    with probe.record(pipe) as recording:
        assert np.array_equal(pipelines.run(pipe, "sd1"), plain)
    with pytest.raises(RecordingError, match="make another"), recording:
        pytest.fail("entered after its end")
    assert fingerprint(pipe) == before and recording.trace.run.steps == pipelines.STEPS


def test_a_recording_that_could_not_begin_may_try_again(pipe):
    recording = probe.record(pipe, sites="mid_block")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(recording), "_attach", lambda *_: pytest.fail("no"))
        with pytest.raises(pytest.fail.Exception), recording:
            pass
    with recording:
        pipelines.run(pipe, "sd1")
    assert recording.trace.run.steps == pipelines.STEPS


def test_what_ends_with_an_error_holds_no_model(pipe):
    recording = probe.record(pipe, branches=["cond", "negative"])
    with pytest.raises(NoMatch, match="negative did not run"), recording:
        pipelines.run(pipe, "sd1")
    assert recording._pipe is None and len(recording.traces) == 1


def test_nested_recordings_see_the_same(pipe):
    plain = pipelines.run(pipe, "sd1")
    with probe.record(pipe) as outer, probe.record(pipe) as inner:
        assert np.array_equal(pipelines.run(pipe, "sd1"), plain)
    for one, other in zip(outer.trace.attention_nodes(), inner.trace.attention_nodes(), strict=True):
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-6)


def test_the_users_own_hooks_survive_in_order(pipe):
    seen: list[str] = []
    handle = pipe.unet.register_forward_hook(lambda *_: seen.append("mine"))
    with probe.record(pipe):
        pipelines.run(pipe, "sd1")
    pipelines.run(pipe, "sd1")
    handle.remove()
    assert seen == ["mine"] * (2 * pipelines.STEPS)


def test_a_second_thread_is_refused(pipe):
    problems: list[BaseException] = []

    def second() -> None:
        try:
            with probe.record(pipe):
                pass
        except AlreadyRecording as problem:
            problems.append(problem)

    with probe.record(pipe):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        pipelines.run(pipe, "sd1")
    assert len(problems) == 1


def test_a_pipeline_that_runs_in_another_thread_is_not_recorded_and_the_error_says_why(pipe):
    with probe.record(pipe) as recording:
        thread = threading.Thread(target=pipelines.run, args=(pipe, "sd1"))
        thread.start()
        thread.join()
    with pytest.raises(NotRecorded, match="in the thread that entered it"):
        _ = recording.trace


def test_every_reading_equals_the_explicit_softmax(pipe, monkeypatch):
    """Recompute each cross-attention map in float64 from the queries and keys of the very call."""
    expected: dict[str, np.ndarray] = {}
    original = F.scaled_dot_product_attention
    running: list[str] = []
    for path, module in pipe.unet.named_modules():
        if path.endswith("attn2"):
            module.register_forward_pre_hook(lambda *_, path=path: running.append(path))

    def spy(query, key, value, *args, **kwargs):
        if running and key.shape[-2] == 77 and query.shape[-2] != 77 and len(query) == 2:
            p = (query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
            expected[f"unet.{running[-1]}"] = p[1].mean(0).numpy()  # [cell, token] of the conditional row
        return original(query, key, value, *args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    pipelines.run(pipe, "sd1")
    monkeypatch.undo()
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd1")
    trace = recording.trace
    columns = {word.label: list(word.tokens["text_encoder"]) for word in trace.words}
    compared = 0
    for node in trace.attention_nodes():
        for site in node.site.values:
            for word in ("cat", "red", "balloon"):
                ours = node.attention.sel(site=site, word=word, branch="cond").isel(step=-1, image=0).values.ravel()
                theirs = expected[str(site)][:, columns[word]].sum(-1)
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
                compared += 1
    assert compared == 3 * 7


def test_shares_of_all_words_and_specials_sum_to_one(pipe):
    words = ["a", "cat", "and", "a#2", "red", "balloon", "<start>", "<end>", "<padding>"]
    with probe.record(pipe, words=words) as recording:
        pipelines.run(pipe, "sd1")
    for node in recording.trace.attention_nodes():
        np.testing.assert_allclose(node.attention.sum("word"), 1.0, atol=1e-5)


def test_guidance_is_the_difference_of_the_branches(pipe):
    outputs: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_hook(lambda m, a, out: outputs.append(out[0].detach().double()))
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd1")
    handle.remove()
    uncond, cond = outputs[0].chunk(2)
    node = recording.trace.node("guidance")
    assert float(node.difference_norm[0, 0]) == pytest.approx(float((cond - uncond).norm()), rel=1e-5)
    np.testing.assert_allclose(node.magnitude[0, 0], (cond - uncond)[0].norm(dim=0), rtol=1e-4, atol=1e-6)
    assert float(node.cosine_final[-1, 0]) == pytest.approx(1.0, abs=1e-3)


def test_without_guidance_there_is_one_branch(pipe):
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd1", guidance_scale=1.0)
    trace = recording.trace
    assert "difference_norm" not in trace.node("guidance")
    assert trace.attention_nodes()[0].sizes["image"] == 1


def test_branches_and_pictures_are_told_apart(pipe):
    call = {"num_images_per_prompt": 2, "negative_prompt": "a dog"}
    with probe.record(pipe, branches=("cond", "negative")) as recording:
        pipelines.run(pipe, "sd1", **call)
    node = recording.trace.attention_nodes()[0]
    assert list(node.branch.values) == ["cond", "negative"] and node.sizes["image"] == 2


def test_a_branch_that_does_not_run_is_an_error_and_all_are_those_that_do(pipe):
    for asked, call, absent in (
        (["cond", "negative"], {"guidance_scale": 1.0}, "negative did not run; there were cond."),
        (["cond", "uncond"], {"negative_prompt": "a dog"}, "uncond did not run; there were cond, negative."),
        (["cond#2"], {}, "cond#2 did not run; there were cond, uncond."),
    ):
        with pytest.raises(NoMatch, match=absent), probe.record(pipe, branches=asked):
            pipelines.run(pipe, "sd1", **call)
    for call, there in (({"guidance_scale": 1.0}, ("cond",)), ({"negative_prompt": "a dog"}, ("cond", "negative"))):
        with probe.record(pipe, branches="*") as recording:
            pipelines.run(pipe, "sd1", **call)
        assert recording.trace.along("branch") == there


def test_bad_requests_say_what_there_is(pipe):
    with pytest.raises(BadInput, match="give a list of words"):
        probe.record(pipe, words="cat")
    with pytest.raises(NoMatch, match="attn2"), probe.record(pipe, sites="nowhere"):
        pass
    with pytest.raises(NoSuchWord, match=r"dog.*balloon"), probe.record(pipe, words=["dog"]):
        pipelines.run(pipe, "sd1")
    with probe.record(pipe) as empty:
        pass
    with pytest.raises(NotRecorded, match="call the pipeline inside the block"):
        _ = empty.trace


def test_sliced_attention_is_an_error_with_its_remedy(pipe):
    pipe.enable_attention_slicing(1)
    with pytest.raises(MissingReadings, match="disable_attention_slicing"), probe.record(pipe):
        pipelines.run(pipe, "sd1")


def test_the_trace_holds_no_model(pipe):
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd1")
    held = [value for value in vars(recording).values() if isinstance(value, torch.nn.Module) or value is pipe]
    assert not held
