"""One site changed at a time: by hand for one call, and identities of what all sites carry together."""

from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.attach.asked.roles import ablated, patched, table
from probe.attach.model.families import FAMILIES
from probe.attach.model.layout import Plane
from probe.attach.text.text_calls import Layout
from probe.attach.waist import Call, plain
from probe.errors import BadInput
from probe.explain.roles import by_group, carried, profile
from tests import pipelines
from tests.fingerprint import fingerprint

SMALL: dict[str, Any] = {"num_inference_steps": 1, "height": 32, "width": 48}
LAYOUT = Layout(FAMILIES["UNet2DConditionModel"], Plane(1, 3, 4, 12), 7)


def draw(rows: int = 2) -> Call:
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(rows, 2, n, 8, generator=rng) for n in (12, 7, 7))
    return Call("down.attn2", 0, q, k, v, None, 8**-0.5, False, 0.0)


def test_a_words_part_is_taken_from_every_cell():
    call = draw()
    P = ((call.q.double() @ call.k.double().transpose(-1, -2)) * call.scale).softmax(-1)
    P[0, :, :, [2, 3]], P[1, :, :, [5]] = 0.0, 0.0
    found = ablated(call, LAYOUT, [[2, 3], [5]], "zero")
    assert found is not None
    torch.testing.assert_close(found.double(), P @ call.v.double(), atol=1e-5, rtol=1e-5)


def test_spread_evenly_the_mean_over_cells_stays():
    call = draw()
    found = ablated(call, LAYOUT, [[2], [5]], "mean")
    assert found is not None and float((found - plain(call)).abs().max()) > 1e-3
    torch.testing.assert_close(found.mean(-2), plain(call).mean(-2), atol=1e-6, rtol=1e-5)


def test_patching_gives_the_first_row_what_the_second_got():
    call = draw()
    found = patched(call, LAYOUT)
    assert found is not None and torch.equal(found[0], found[1])
    torch.testing.assert_close(found[1], plain(call)[1])
    beside_text = Call("down.attn1", 0, call.q, call.q, call.q, None, 1.0, False, 0.0)
    assert patched(beside_text, LAYOUT) is None and ablated(beside_text, LAYOUT, [[1], [2]], "zero") is None


def test_a_table_has_nan_where_there_is_nothing():
    found = table({(0, "a"): 1.0, (1, "b"): 2.0}, ("step", "site"), "u")
    np.testing.assert_array_equal(found, [[1.0, np.nan], [np.nan, 2.0]])


def recorded(name: str, asked: Any) -> Any:
    pipe = pipelines.pipeline(name)
    with probe.record(pipe, explain=asked) as recording:
        pipelines.run(pipe, name, **SMALL)
    return recording.trace


@pytest.mark.parametrize(("name", "count"), [("sd1", 7), ("sd3", 2)])
def test_all_sites_together_carry_the_whole_difference(name: str, count: int):
    trace = recorded(name, [probe.Patching(source="a dog and a red balloon"), probe.Ablation()])
    node = trace.node("roles/patching")
    assert node.sizes["site"] == count and float(node["gap"].max()) > 0
    np.testing.assert_allclose(node["together"], 1.0, atol=1e-3)
    assert float(abs(node["recovered"]).max()) > 1e-3
    assert set(node["site"].values) == {site.path for site in trace.sites}
    effect = trace.node("roles/ablation")["effect"]
    assert effect.dims == ("step", "image", "site", "word") and float(effect.min()) >= 0 and float(effect.max()) > 0
    shares = profile(trace)
    np.testing.assert_allclose(shares.sum("site"), 1.0, atol=1e-5)
    np.testing.assert_allclose(by_group(shares).sum("group"), 1.0, atol=1e-5)
    assert set(carried(trace)["cells"].values) == {site.grid[0] * site.grid[1] for site in trace.sites}


def test_the_same_prompt_differs_in_nothing():
    node = recorded("sd1", probe.Patching(source=pipelines.PROMPT)).node("roles/patching")
    assert float(node["gap"].max()) < 1e-5 and float(abs(node["recovered"]).max()) < 1e-3


def test_prompts_of_other_lengths_do_not_fit_where_text_is_not_padded():
    with pytest.raises(BadInput, match="equally many tokens"):
        recorded("qwen_image", probe.Patching(source="a cat"))


class Fault(RuntimeError):
    """An injected error."""


def test_nothing_is_left_behind_and_the_picture_stays(monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.load("sd1")
    before = pipelines.run(pipe, "sd1", **SMALL)
    marks = fingerprint(pipe)
    with probe.record(pipe, explain=probe.Ablation(words=("cat",), by="mean")):
        assert np.array_equal(pipelines.run(pipe, "sd1", **SMALL), before)
    assert fingerprint(pipe) == marks

    def broken(*_: object) -> None:
        raise Fault("injected")

    monkeypatch.setattr("probe.attach.asked.roles.plain", broken)
    with pytest.raises(Fault), probe.record(pipe, explain=probe.Ablation()):
        pipelines.run(pipe, "sd1", **SMALL)
    assert fingerprint(pipe) == marks
