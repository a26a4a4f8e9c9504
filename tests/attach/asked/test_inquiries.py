"""All inquiries in one recording: the picture stays, each has its node, and what was found survives saving."""

from pathlib import Path

import numpy as np
import pytest

import probe
from probe.errors import NoMatch
from tests import pipelines

ASKED = [
    probe.LeaveOneOut(steps=(1,)),
    probe.Shapley(steps=(1,), permutations=2),
    probe.Concepts(words=("zebra",), steps=(1,)),
    probe.Gradients(steps=(1,), samples=2),
    probe.Gradients(steps=(1,), method="feature_ablation", on="text", box=(0.0, 0.0, 0.5, 0.5)),
    probe.Ablation(steps=(1,)),
    probe.Patching(steps=(1,), source="a dog"),
]
NODES = {
    "/leave_one_out",
    "/shapley",
    "/concepts/16x24",
    "/gradients/latents",
    "/gradients/text",
    "/roles/ablation",
    "/roles/patching",
}


def test_all_at_once_and_saved(tmp_path: Path):
    pipe = pipelines.pipeline("sd1")
    plain = pipelines.run(pipe, "sd1")
    with probe.record(pipe, explain=ASKED) as recording:
        assert np.array_equal(pipelines.run(pipe, "sd1"), plain)
    trace = recording.trace
    assert set(trace.tree.groups) >= NODES
    opened = probe.open(trace.save(tmp_path / "trace"))
    for node in NODES:
        assert opened.node(node).load().identical(trace.node(node)), node
        assert trace.node(node)["step"].values.tolist() == [1]
    for explain in (probe.leave_one_out, probe.shapley, probe.concept_attention, probe.gradients):
        np.testing.assert_array_equal(explain(opened, "cat").values, explain(trace, "cat").values)


@pytest.mark.parametrize(
    ("steps", "said"),
    [((0, 9), r"Ablation\(steps=\(0, 9\)\) selects \[9\]; this run has steps 0 to"), ((), "selects no step")],
)
def test_a_step_that_is_not_in_the_run_is_an_error(steps: tuple[int, ...], said: str):
    pipe = pipelines.pipeline("sd1")
    with pytest.raises(NoMatch, match=said), probe.record(pipe, explain=probe.Ablation(steps=steps)):
        pipelines.run(pipe, "sd1")
    assert pipelines.run(pipe, "sd1") is not None
