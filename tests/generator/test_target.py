"""The judge as a target: the right number, with a gradient to the prediction, and only for what it knows."""

import pytest
import torch

import probe
from probe.attach.model.prediction import Level
from probe.attach.relevance.targets import Seen
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.target import JudgeLogit
from probe.generator.world import SIDE
from probe.generator.world import vocabulary as v


class Shown(Seen):
    """A prediction that is a picture already."""

    picture = property(lambda self: self.output)


def shown(pixels: torch.Tensor, box=None) -> Shown:
    return Shown(pixels, None, pixels, Level("sample", 1.0, 0.0), None, box=box)


@pytest.fixture(scope="module")
def judge():
    return weights.judge()


def test_is_the_smooth_maximum_of_the_judges_own_logits(judge):
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plane = judge.network(pixels)["kind"][0, 1 + v.KINDS.index("cat")]
    expected = float(plane.double().exp().sum().log())
    assert float(JudgeLogit(judge, "cat")(shown(pixels))) == pytest.approx(expected, rel=1e-4)
    inside = float(plane[:, : SIDE // 2].double().exp().sum().log())
    assert float(JudgeLogit(judge, "cat")(shown(pixels, (0.0, 0.0, 0.5, 1.0)))) == pytest.approx(inside, rel=1e-4)


def test_a_word_for_many_kinds_is_at_least_each_of_them(judge):
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    animal, cat = (float(JudgeLogit(judge, word)(shown(pixels))) for word in ("animal", "cat"))
    assert animal > cat


def test_what_the_judge_does_not_know_is_an_error(judge):
    with pytest.raises(BadInput, match="the judge knows no 'theorem'"):
        JudgeLogit(judge, "theorem")


def test_relevancy_of_the_judges_logit(judge):
    pipe = probe.load()
    pipe.set_progress_bar_config(disable=True)
    target = JudgeLogit(judge, "cat")
    with probe.record(pipe, explain=probe.Relevancy(steps=(2,), target=target)) as recording:
        pipe(
            "a cat and a ball", num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="latent"
        )
    heatmap = probe.relevancy(recording.trace, "cat")
    assert float(heatmap.values.max()) > 0 and heatmap.provenance["target"] == "judge's logit of 'cat'"
