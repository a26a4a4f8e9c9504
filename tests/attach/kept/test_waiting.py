"""Calls that wait: small ones of one shape are read as one, each keeps its place, and the readings are the same."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import probe
from probe.attach.kept import waiting
from probe.attach.kept.waiting import At, Waiting
from probe.attach.waist import Call, log_sum_exp, probabilities
from tests import pipelines

COLUMNS = torch.tensor([1, 4])


def call(path: str, seed: int, rows: int = 6, scale: float = 0.5, mask: torch.Tensor | None = None) -> Call:
    """One of two rows of a batch, [2, 3, rows, 4] asking 5 columns."""
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(2, 3, rows, 4, generator=rng)
    k, v = (torch.randn(2, 3, 5, 4, generator=rng) for _ in range(2))
    return Call(path, 0, q, k, v, mask, scale, False, 0.0)


def at(path: str, prompt: int = 0) -> At:
    return At(0, (path, 0), (0,), "cond", prompt, 5)


def wait(*calls: Call, rows: int = 1) -> Waiting:
    held = Waiting()
    for one in calls:
        held.add(one, log_sum_exp(one, slice(None)), [([rows], at(one.path))])
    return held


def paths(held: Waiting, kind=lambda at: "cross") -> list[list[str]]:
    return [[one.key[0] for one in ats] for _, _, ats in held.each(kind)]


def test_calls_of_one_shape_are_one_and_each_has_its_own_rows():
    first, second = call("a", 0), call("b", 1)
    ((joined, lse, ats),) = wait(first, second).each(lambda at: "cross")
    assert [one.key[0] for one in ats] == ["a", "b"] and joined.q.shape == (2, 3, 6, 4)
    p = probabilities(joined, slice(None), COLUMNS, lse)
    for i, one in enumerate((first, second)):
        assert_close(p[i], probabilities(one, slice(None), COLUMNS)[1], atol=1e-7, rtol=0)


def test_other_shapes_scales_masks_and_kinds_are_read_alone():
    mask = torch.zeros(1, 1, 1, 5)
    held = wait(call("a", 0), call("b", 1, rows=8), call("c", 2, scale=1.0), call("d", 3, mask=mask), call("e", 4))
    assert paths(held) == [["a", "e"], ["b"], ["c"], ["d"]]
    assert paths(held, lambda at: None) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert paths(held, lambda at: at.key) == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_two_prompts_are_never_one():
    held, one = Waiting(), call("a", 0)
    held.add(one, None, [([1], at("a")), ([0], at("a", prompt=1))])
    assert paths(held) == paths(held, lambda at: None) == [["a"], ["a"]]


def test_no_more_are_joined_than_stay_in_the_cache(monkeypatch):
    monkeypatch.setattr(waiting, "TOGETHER", 2 * 3 * 6 * 5)  # the scores of two
    assert paths(wait(*(call(path, 0) for path in "abcde"))) == [["a", "b"], ["c", "d"], ["e"]]
    monkeypatch.setattr(waiting, "TOGETHER", 1)
    assert paths(wait(call("a", 0), call("b", 1))) == [["a"], ["b"]]


def test_what_waits_is_counted_and_forgotten():
    held = wait(call("a", 0))
    assert held.nbytes == 4 * (2 * 3 * 6 * 4 + 2 * 2 * 3 * 5 * 4) and not held.full
    held.clear()
    assert not held.calls and not held.nbytes


def test_a_pass_that_broke_off_leaves_nothing_and_takes_nothing_of_those_before():
    held = wait(call("a", 0))
    held.end_pass()
    nbytes = held.nbytes
    held.add(call("b", 1), None, [([1], at("b"))])
    held.begin_pass()
    assert paths(held) == [["a"]] and held.nbytes == nbytes


def test_steps_are_read_as_one_and_each_goes_where_it_belongs():
    pipe = pipelines.load("sd1")
    joined, original = [], waiting._joined

    def maps() -> list[np.ndarray]:
        with probe.record(pipe, keep="maps") as recording:
            pipelines.run(pipe, "sd1", num_inference_steps=4)
        return [node["attention"].values for node in recording.trace.attention_nodes()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "_joined", lambda part: joined.append({at.step for *_, at in part}) or original(part))
        together = maps()
        patch.setattr(waiting, "WAITING", 0)
        steps, alone = joined.copy(), maps()
    assert max(map(len, steps)) > 1 == max(map(len, joined[len(steps) :]))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", ["sd1", "flux1", "animate_diff"])
def test_a_trace_holds_the_same_whether_its_calls_are_read_together_or_not(name, monkeypatch):
    pipe = pipelines.load(name)

    def maps() -> list[torch.Tensor]:
        with probe.record(pipe, heads="all") as recording:
            pipelines.run(pipe, name)
        trace = recording.trace
        nodes = [*trace.attention_nodes(), *trace.attention_nodes("heads")]
        return [torch.from_numpy(node["attention"].values) for node in nodes]

    joined, original = [], waiting._joined
    monkeypatch.setattr(waiting, "_joined", lambda part: joined.append(len(part)) or original(part))
    together = maps()
    monkeypatch.setattr(waiting, "TOGETHER", 1)
    sizes, alone = joined.copy(), maps()
    assert max(sizes) > 1 == max(joined[len(sizes) :])
    for one, other in zip(together, alone, strict=True):
        assert_close(one, other, atol=1e-7, rtol=0, equal_nan=True)
