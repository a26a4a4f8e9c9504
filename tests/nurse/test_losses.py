"""The family of losses against hand-computed cases and identities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe.errors import BadInput
from probe.intervention import Maps, Score
from probe.nurse import AStar, BoxDiff, Conform, DivideAndBind, LayoutGuidance, Separate, SynGen
from probe.nurse.binding import contrast
from probe.nurse.boxes import box_mask, top_mean
from probe.nurse.maps import distribution, jensen_shannon, overlap, symmetric_kl, total_variation

POSITIONS = {"red": (2,), "car": (3,), "blue": (6,), "bowl": (7,)}
planes = st.integers(0, 10_000).map(lambda seed: torch.rand(6, 8, generator=torch.Generator().manual_seed(seed)))


def maps(seed: int = 0, **cells: tuple[int, int]) -> Maps:
    """Random attention over 12 tokens, with each named word hot at one cell."""
    A = torch.rand(16, 16, 12, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    for name, (y, x) in cells.items():
        A[y, x] = 0.0
        A[y, x, POSITIONS[name][0]] = 1.0
    return Maps(A.requires_grad_(True), POSITIONS, 8)


@given(planes, planes)
def test_divergences_are_symmetric_and_zero_for_equal_maps(a, b):
    p, q = distribution(a), distribution(b)
    assert float(symmetric_kl(p, q)) == pytest.approx(float(symmetric_kl(q, p)), rel=1e-5)
    assert float(symmetric_kl(p, p)) == pytest.approx(0.0, abs=1e-7)
    assert float(jensen_shannon(p, p)) == pytest.approx(0.0, abs=1e-6)
    assert 0 <= float(jensen_shannon(p, q)) <= math.log(2) + 1e-6


def value(score: Score) -> float:
    return float(score.loss.detach())


def test_overlap_of_equal_and_of_disjoint_maps():
    p = torch.rand(4, 4)
    assert float(overlap(p, p)) == pytest.approx(0.5)
    left, right = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], right[:, 2:] = 1.0, 1.0
    assert float(overlap(left, right)) == 0.0


def test_total_variation_of_a_constant_and_of_a_step():
    assert float(total_variation(torch.full((5, 5), 0.3))) == 0.0
    step = torch.zeros(4, 5)
    step[:, 3:] = 1.0  # one of four horizontal neighbours differs, no vertical one
    assert float(total_variation(step)) == pytest.approx(0.25)


def test_contrast_with_one_positive_and_one_negative():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = contrast(rows, torch.tensor([0, 0, 1]), 0.5)
    assert float(loss) == pytest.approx(-math.log(math.e**2 / (math.e**2 + 1)), abs=1e-6)  # 0.126928


def test_syngen_by_hand():
    given_maps = maps()
    A = given_maps.A
    p = {i: distribution(A[..., i]) for i in range(12)}
    others = [1, 4, 5, 6, 7]
    apart = [sum(symmetric_kl(p[i], p[u]) for u in others) / len(others) for i in (3, 2)]
    expected = symmetric_kl(p[3], p[2]) - (apart[0] + apart[1]) / 2
    loss = SynGen(bindings={"car": ("red",)}).score(given_maps).loss
    assert loss.detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-5)


def test_a_noun_without_modifiers_is_only_pushed_away():
    assert float(SynGen(bindings={"car": ()}).score(maps()).loss.detach()) < 0


@pytest.mark.parametrize("tau", [0.02, 0.5, 100.0])
def test_the_contrast_is_finite_at_every_temperature_that_is_allowed(tau):
    seen = maps()
    alike = Maps(torch.ones_like(seen.A).requires_grad_(True), POSITIONS, 8)
    for each in (seen, alike):
        loss = Separate(groups=(("red", "car"), ("blue", "bowl")), tau=tau).score(each).loss
        (gradient,) = torch.autograd.grad(loss, each.A)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_conform_prefers_groups_that_are_together():
    method = Conform(groups=(("red", "car"), ("blue", "bowl")))
    bound = maps(red=(3, 3), car=(3, 3), blue=(12, 12), bowl=(12, 12))
    mixed = maps(red=(12, 12), car=(3, 3), blue=(3, 3), bowl=(12, 12))
    for m in (bound, mixed):
        m.A.data[..., 2:8] *= 0.01
    bound.A.data[3, 3, [2, 3]], bound.A.data[12, 12, [6, 7]] = 1.0, 1.0
    mixed.A.data[12, 12, [2, 7]], mixed.A.data[3, 3, [3, 6]] = 1.0, 1.0
    assert value(method.score(bound)) < value(method.score(mixed))


def test_layout_guidance_on_constant_attention():
    flat = Maps(torch.full((16, 16, 12), 0.1), POSITIONS, 8)
    score = LayoutGuidance(boxes={"car": (0.0, 0.0, 0.5, 1.0)}).score(flat)
    assert float(score.loss) == pytest.approx((1 - 0.5) ** 2)


def test_box_diff_falls_when_the_subject_moves_into_its_box():
    method = BoxDiff(boxes={"car": (0.0, 0.0, 0.5, 0.5)})
    assert value(method.score(maps(car=(4, 4)))) < value(method.score(maps(car=(13, 13))))


@pytest.mark.parametrize(("cells", "k"), [(5, 1), (4, 1), (10, 2)])
def test_top_mean_takes_at_least_one_cell(cells, k):
    values = torch.arange(cells, dtype=torch.float32)
    assert float(top_mean(values, 0.2)) == pytest.approx(float(values[-k:].mean()))


@pytest.mark.parametrize("box", [(-0.1, 0, 1, 1), (0.5, 0, 0.4, 1), (0, 0, 1, 1.2)])
def test_boxes_outside_of_the_picture(box):
    with pytest.raises(BadInput, match="between 0 and 1"):
        box_mask(box, 16, 16)


def test_a_box_smaller_than_a_cell():
    with pytest.raises(BadInput, match="smaller than a cell of the 16 x 16 grid"):
        box_mask((0.5, 0.5, 0.51, 0.51), 16, 16)


def test_divide_and_bind_rewards_variation_and_binding():
    sharp = DivideAndBind(subjects=("car",)).score(maps(car=(8, 8)))
    assert float(sharp.loss.detach()) < 0
    bound = DivideAndBind(subjects=("car",), attributes={"car": "red"})
    together, apart = maps(car=(8, 8)), maps(car=(8, 8), red=(2, 2))
    assert value(bound.score(together)) != value(bound.score(apart))


def test_divide_and_bind_weighs_binding_by_the_step_and_refines_by_variation():
    method, seen = DivideAndBind(subjects=("car",), attributes={"car": "red"}), maps(car=(8, 8), red=(2, 2))
    alone = value(DivideAndBind(subjects=("car",)).score(seen))
    bound = [value(method.now(step, ()).score(seen)) - alone for step in (0, 9, 10, 19, 20, 24)]
    assert [each / bound[0] for each in bound] == pytest.approx([1, 1, 5, 5, 10, 10], rel=1e-4)
    assert [method.now(step, ()).max_refinements for step in (0, 1)] == [50, 20]
    varied = Score(0.0, {"car": 0.25, "bowl": 0.3})
    assert [method.met(step, [varied]) for step in (0, 5, 10, 20)] == [True, True, True, False]


def test_box_diff_refines_until_the_subject_that_is_least_inside_is_so():
    method, seen = BoxDiff(boxes={"car": (0, 0, 0.5, 0.5), "bowl": (0.5, 0.5, 1, 1)}), maps(car=(4, 4))
    score = method.score(seen)
    parts = [value(BoxDiff(boxes={name: box}).score(seen)) for name, box in method.boxes.items()]
    alone = [BoxDiff(boxes={name: box}).score(seen).terms["inside"] for name, box in method.boxes.items()]
    assert value(score) == pytest.approx(sum(parts), rel=1e-5)
    assert score.terms["inside"] == max(alone)
    met = Score(score.loss, score.subjects, {"inside": 0.5})
    assert [method.met(step, [met]) for step in (0, 5, 10, 20)] == [True, True, True, False]


def test_a_star_separates_and_retains():
    method = AStar(subjects=("car", "bowl"))
    first = maps(car=(3, 3), bowl=(12, 12))
    same = Maps(first.A, POSITIONS, 8, previous=Maps(first.A.detach(), POSITIONS, 8))
    assert value(method.score(same)) > value(method.score(first))


@pytest.mark.parametrize(
    "method",
    [
        SynGen(bindings={"car": ("red",), "bowl": ("blue",)}),
        Conform(groups=(("red", "car"), ("blue", "bowl"))),
        Separate(groups=(("car",), ("bowl",))),
        DivideAndBind(subjects=("car", "bowl"), attributes={"car": "red"}),
        AStar(subjects=("car", "bowl")),
        BoxDiff(boxes={"car": (0, 0, 0.5, 1), "bowl": (0.5, 0, 1, 1)}),
        LayoutGuidance(boxes={"car": (0, 0, 0.5, 1)}),
    ],
    ids=lambda method: method.method,
)
def test_every_loss_has_a_finite_gradient_that_lowers_it(method):
    given_maps = maps(seed=3)
    before = method.score(given_maps).loss
    (gradient,) = torch.autograd.grad(before, given_maps.A)
    assert torch.isfinite(gradient).all() and float(gradient.abs().sum()) > 0
    scale = 1e-4 / float(gradient.abs().max())
    after = method.score(Maps(given_maps.A.detach() - scale * gradient, POSITIONS, 8)).loss
    assert float(after.detach()) < float(before.detach())


def test_the_contrast_of_each_group_is_the_mean_over_its_own_pairs():
    A = torch.rand(16, 16, 12, generator=torch.Generator().manual_seed(0))
    maps = Maps(A, {"red": (1,), "car": (2,), "bowl": (4,)}, 8)
    found = Conform(groups=(("red", "car"), ("bowl",)), subjects=("car", "bowl")).score(maps)
    assert set(found.subjects) == {"car", "bowl"}
    assert found.subjects["car"] == pytest.approx(found.value) and found.subjects["bowl"] == 0  # it has no pair
    apart = Separate(groups=(("red", "car"), ("bowl",)), subjects=("car", "bowl")).score(maps)
    assert apart.value == pytest.approx((4 * apart.subjects["car"] + apart.subjects["bowl"]) / 5)
