"""The lens: the whole encoder is the pipeline itself; fewer layers are the hidden state through the final norm."""

from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.attach.asked.lens import blocks_of, shortened
from probe.errors import BadInput, NoMatch, NotRecorded
from tests import pipelines
from tests.fingerprint import fingerprint

CALL: dict[str, Any] = {"num_inference_steps": 1, "height": 32, "width": 48, "output_type": "np"}


def test_all_layers_are_the_pipeline_itself_and_fewer_are_not():
    pipe = pipelines.load("sd1")
    plain = pipelines.run(pipe, "sd1", **CALL)
    marks = fingerprint(pipe)
    traces = probe.lens(pipe, pipelines.PROMPT, [0, 1, -1, 2], guidance_scale=4.0, **CALL)
    assert list(traces) == [0, 1, 2] and fingerprint(pipe) == marks
    latents = [traces[depth].node("latents")["latents"].values[-1] for depth in traces]
    with probe.record(pipe) as recording:
        again = pipelines.run(pipe, "sd1", **CALL)
    assert np.array_equal(again, plain)
    np.testing.assert_array_equal(latents[2], recording.trace.node("latents")["latents"].values[-1])
    assert min(float(np.abs(a - latents[2]).max()) for a in latents[:2]) > 1e-2
    assert traces[1].extra["lens"] == {"encoder": "text_encoder", "layer": 1, "layers": 2}


def test_a_layer_is_its_hidden_state_through_the_final_norm():
    pipe = pipelines.pipeline("sd1")
    with torch.no_grad():
        ids = pipe.tokenizer(pipelines.PROMPT, padding="max_length", return_tensors="pt").input_ids
        hidden = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        norm = pipe.text_encoder.text_model.final_layer_norm if hasattr(pipe.text_encoder, "text_model") else None
        norm = norm or pipe.text_encoder.final_layer_norm
        for depth in (0, 1, 2):
            with shortened(blocks_of(pipe, "text_encoder"), depth):
                found = pipe.text_encoder(ids)[0]
            torch.testing.assert_close(found, norm(hidden[depth]))


def test_a_trace_keeps_the_pictures_of_a_lens(tmp_path):
    pipe = pipelines.load("sd1")
    traces = probe.lens(pipe, pipelines.PROMPT, [0, 2], **CALL | {"output_type": "pil"})
    held = probe.with_lens(traces[2], traces)
    again = probe.open(held.save(tmp_path / "trace"))
    shown = probe.show.lens_pictures(again)
    assert list(shown) == [0, 2] and again.node("lens").attrs["layers"] == 2
    for depth, picture in shown.items():
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(traces[depth].pictures[0].convert("RGB")))
    with pytest.raises(BadInput, match="give what probe.lens returned"):
        probe.with_lens(held, {})
    with pytest.raises(NotRecorded, match="output_type"):
        probe.with_lens(held, probe.lens(pipe, pipelines.PROMPT, [0], **CALL | {"output_type": "latent"}))


def test_one_of_several_encoders():
    pipe = pipelines.pipeline("sd3")
    traces = probe.lens(pipe, pipelines.PROMPT, [0, 2], encoder="text_encoder_3", max_sequence_length=32, **CALL)
    shallow, whole = (trace.node("latents")["latents"].values[-1] for trace in traces.values())
    assert float(np.abs(shallow - whole).max()) > 1e-3


def test_bad_input_lists_what_there_is():
    pipe = pipelines.pipeline("sd1")
    with pytest.raises(NoMatch, match="2 layers, so there are 0 to 2"):
        probe.lens(pipe, "a cat", [3])
    with pytest.raises(BadInput, match="this pipeline has text_encoder"):
        probe.lens(pipe, "a cat", encoder="text_encoder_2")


def test_the_blocks_are_given_back_when_a_run_fails():
    pipe = pipelines.load("sd1")
    marks = fingerprint(pipe)
    with pytest.raises(ValueError, match="divisible"):
        probe.lens(pipe, "a cat", [1], height=33, width=48)
    assert fingerprint(pipe)["hooks"] == marks["hooks"]
