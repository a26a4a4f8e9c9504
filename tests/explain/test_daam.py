"""DAAM's map: equal to its formula written out in torch on the very attention, and what it needs from a trace."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import probe
from probe.errors import NoMatch, NoSuchWord
from probe.explain.daam import bicubic, daam
from probe.trace import Trace
from tests import pipelines
from tests.attach.looking import checking, softmax64
from tests.factories import make_trace

STEPS = 3


@pytest.mark.parametrize("old", [(4, 4), (8, 12), (24, 10), (64, 64)])
@pytest.mark.parametrize("new", [(64, 64), (16, 24), (5, 7)])
def test_the_interpolation_is_torchs(old: tuple[int, int], new: tuple[int, int]):
    planes = np.random.default_rng(0).random((2, 3, *old))
    expected = F.interpolate(torch.from_numpy(planes), size=new, mode="bicubic").numpy()
    np.testing.assert_allclose(bicubic(planes, new), expected, atol=1e-12)


def written_out(attention: dict[str, Tensor], columns: list[int], shape: tuple[int, int]) -> np.ndarray:
    """The formula: `attention` [h, n, m], summed over steps, of each layer."""
    heads = []
    for path, layer in attention.items():
        if ("down_blocks" not in path and "up_blocks" not in path) or not path.endswith("attn2"):
            continue
        y = round((layer.shape[1] * shape[0] / shape[1]) ** 0.5)
        maps = layer.permute(0, 2, 1).unflatten(2, (y, -1))  # [h, m, y, x]
        if int((shape[0] * shape[1] // layer.shape[1]) ** 0.5) != 8:
            heads += list(F.interpolate(maps, size=shape, mode="bicubic").clamp(min=0))
    return torch.stack(heads).mean(0)[columns].mean(0).numpy()


def columns(trace: Trace, *labels: str) -> list[int]:
    return [token.index for token in trace.tokens if token.encoder == "text_encoder" and token.word in labels]


@pytest.fixture(scope="module")
def taken() -> tuple[Trace, dict[str, Tensor]]:
    """A recording with its heads, and the conditional attention itself, summed over steps, in float64."""
    pipe, sums = pipelines.pipeline("sd1"), {}
    patched = pytest.MonkeyPatch()
    with checking(), patched.context() as patch, probe.record(pipe, ["*"], heads="all") as recording:
        read = probe.attach.kept.attention.AttentionReader.read

        def kept(reader: Any, call: Any, lse: Any, current: Any) -> None:
            row = next(i for i, row in enumerate(current.rows) if row.branch == "cond")
            sums[call.path] = sums.get(call.path, 0) + softmax64(call)[row]
            read(reader, call, lse, current)

        patch.setattr(probe.attach.kept.attention.AttentionReader, "read", kept)
        pipelines.run(pipe, "sd1", prompt="a cat and a red balloon and a xylophonist", num_inference_steps=STEPS)
    return recording.trace, sums


@pytest.mark.parametrize(("word", "labels"), [("cat", ["cat"]), ("a", ["a", "a#2", "a#3"]), ("a#2", ["a#2"])])
def test_it_is_the_formula_written_out(taken: tuple[Trace, dict[str, Tensor]], word: str, labels: list[str]):
    trace, attention = taken
    heatmap = daam(trace, word)
    assert heatmap.values.shape == (43, 64) and heatmap.method == "daam" and heatmap.provenance["exact"]
    expected = written_out(attention, columns(trace, *labels), (43, 64))
    assert np.abs(heatmap.values.values - expected).max() < 1e-5
    assert expected.max() > 0.01


def test_a_word_of_several_tokens_is_their_mean(taken: tuple[Trace, dict[str, Tensor]]):
    trace, attention = taken
    places = columns(trace, "xylophonist")
    assert len(places) > 1
    heatmap = daam(trace, "xylophonist")
    assert not heatmap.provenance["exact"]
    expected = written_out(attention, places, (43, 64))
    assert np.abs(heatmap.values.values - expected).max() < 0.02 * expected.max()


def test_without_heads_it_is_near(taken: tuple[Trace, dict[str, Tensor]]):
    whole = taken[0]
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd1", prompt=whole.prompt, num_inference_steps=STEPS)
    near, exact = daam(recording.trace, "cat"), daam(whole, "cat")
    assert not near.provenance["exact"]
    assert np.abs(near.values - exact.values).max() < 0.05 * exact.values.max()


def test_groups_of_steps_count_for_each_of_their_steps(taken: tuple[Trace, dict[str, Tensor]]):
    whole = taken[0]
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe, ["cat"], heads="all", groups=1) as recording:
        pipelines.run(pipe, "sd1", prompt=whole.prompt, num_inference_steps=STEPS)
    np.testing.assert_allclose(daam(recording.trace, "cat").values, daam(whole, "cat").values, atol=1e-5)


def test_steps_and_pictures_are_chosen():
    trace = make_trace(images=2)
    whole = daam(trace, "cat", image=1)
    parts = [daam(trace, "cat", image=1, steps=step) for step in range(4)]
    assert parts[0].provenance["steps"] == [0]
    np.testing.assert_allclose(sum(part.values for part in parts), whole.values, rtol=1e-4)
    assert np.abs(daam(trace, "cat").values - whole.values).max() > 0.01


def test_maps_eight_times_coarser_are_left_out():
    trace = make_trace(grids=((16, 16), (8, 8)))
    assert len(daam(trace, "cat").provenance["sites"]) == 2
    assert len(daam(trace, "cat", side=96).provenance["sites"]) == 4
    with pytest.raises(NoMatch, match="8 times coarser than 64 x 64"):
        daam(make_trace(grids=((8, 8),)), "cat")


def test_what_is_not_there_is_named():
    with pytest.raises(NoSuchWord, match="'dog' was not recorded; the words of this trace are: cat"):
        daam(make_trace(), "dog")
    pipe = pipelines.pipeline("sd3")
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "sd3")
    with pytest.raises(NoMatch, match=r"(?s)down_blocks.*there are:.*transformer_blocks"):
        daam(recording.trace, "cat")


def test_what_is_no_word_has_no_map(taken: tuple[Trace, dict[str, Tensor]]):
    trace = replace(taken[0], tokens=tuple(token for token in taken[0].tokens if token.special != "<end>"))
    with pytest.raises(
        NoSuchWord, match="'<end>' is not a word of the prompt, and DAAM has maps of words only; there are: "
    ):
        daam(trace, "<end>")
