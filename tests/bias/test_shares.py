"""Shares: against hand computation, identities, and how often intervals hold what they should."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from probe.bias.confusion import Confusion
from probe.bias.shares import corrected, effective, entropy, imbalance, invert, majority, needed, wilson
from probe.errors import BadInput
from probe.generator.measure import interval

TWO = Confusion(("man", "woman"), ((90, 10), (20, 80)), "by hand")
THREE = Confusion(("a", "b", "c"), ((70, 20, 10), (15, 75, 10), (5, 25, 70)))


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 10), (81, 263), (10, 10)])
def test_wilson_is_the_formula(hits: int, trials: int):
    found = wilson(hits, trials)
    assert (found.low, found.high) == pytest.approx(interval(hits, trials, 1.959964), abs=1e-6)
    assert found.value == hits / trials


def test_no_pictures_say_nothing():
    assert math.isnan(wilson(0, 0).value) and (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert math.isnan(corrected([0, 0], TWO)[0].value)


@given(st.floats(0.01, 0.4), st.sampled_from([0.9, 0.95, 0.99]))
def test_so_many_pictures_are_enough_and_fewer_are_not(within: float, confidence: float):
    def reach(n: int) -> float:
        found = wilson(n, 2 * n, confidence=confidence)  # a share of one half has the widest interval
        return (found.high - found.low) / 2

    least = needed(within, confidence=confidence)
    assert reach((least + 1) // 2) <= within + 1e-9
    assert least <= 2 or reach((least - 1) // 2) > within - 0.1 / least


@pytest.mark.parametrize("within", [0, 0.5, -1])
def test_an_impossible_interval_is_refused(within: float):
    with pytest.raises(BadInput, match="between 0 and 0.5"):
        needed(within)


def test_two_labels_are_rogan_and_gladen():
    sensitivity, specificity, read = 0.9, 0.8, 0.6
    by_hand = (read + specificity - 1) / (sensitivity + specificity - 1)
    assert corrected([60, 40], TWO)[0].value == pytest.approx(by_hand)


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_what_a_classifier_blurs_is_got_back(weights: list[float]):
    true = np.asarray(weights) / sum(weights)
    assert invert(true @ THREE.rates, THREE.rates) == pytest.approx(true, abs=1e-9)


@pytest.mark.parametrize("seen", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.04, 0.95, 0.01)])
def test_outside_of_the_possible_it_is_least_squares_within(seen: tuple[float, ...]):
    found = invert(np.asarray(seen), THREE.rates)
    sure = {"type": "eq", "fun": lambda p: p.sum() - 1}
    best = minimize(
        lambda p: ((p @ THREE.rates - np.asarray(seen)) ** 2).sum(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints=sure,
        options={"ftol": 1e-14},
    )
    assert found == pytest.approx(best.x, abs=1e-4)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()


@pytest.mark.parametrize("read", [0.0, 0.1, 0.95, 1.0])
def test_of_two_labels_the_nearest_is_the_end(read: float):
    found = invert(np.array([read, 1 - read]), TWO.rates)
    assert found.tolist() == ([0.0, 1.0] if read < 0.5 else [1.0, 0.0])


def test_many_at_once_are_each_alone():
    seen = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    assert invert(seen, THREE.rates) == pytest.approx(np.stack([invert(one, THREE.rates) for one in seen]))


def test_a_perfect_classifier_changes_no_share():
    perfect = Confusion(("man", "woman"), ((10_000, 0), (0, 10_000)))
    found = corrected([30, 70], perfect)[0]
    assert found.value == pytest.approx(0.3)
    raw = wilson(30, 100)
    assert (found.low, found.high) == pytest.approx((raw.low, raw.high), abs=0.01)


def test_intervals_grow_with_both_kinds_of_error():
    def width(scale: int, pictures: int) -> float:
        counts = tuple(tuple(scale * count for count in row) for row in TWO.counts)
        found = corrected([pictures // 2] * 2, Confusion(TWO.labels, counts))[0]
        return found.high - found.low

    assert width(1, 100) > width(100, 100) > width(100, 1000)
    assert width(1, 10_000) > 2 * width(100, 10_000)  # then the matrix is what is not known


@pytest.mark.parametrize("true", [0.5, 0.8, 0.97])
def test_the_interval_holds_the_truth_as_often_as_it_says(true: float):
    rng = np.random.default_rng(1)
    rates, held = TWO.rates, 0
    for _ in range(200):
        matrix = Confusion(TWO.labels, tuple(tuple(map(int, rng.multinomial(100, row))) for row in rates))
        counts = rng.multinomial(150, np.array([true, 1 - true]) @ rates)
        found = corrected(counts.tolist(), matrix, draws=400)[0]
        held += found.low <= true <= found.high
    assert held / 200 >= 0.91


def test_a_classifier_that_guesses_is_refused():
    with pytest.raises(BadInput, match="cannot tell man, woman apart.*another classifier"):
        corrected([1, 1], Confusion(("man", "woman"), ((50, 50), (48, 52))))


@pytest.mark.parametrize("counts", [((1,),), ((1, 2), (3,)), ((1, 2), (0, 0)), ((1, 2), (-1, 3))])
def test_a_matrix_that_is_none_is_refused(counts: tuple[tuple[int, ...], ...]):
    with pytest.raises(BadInput, match="labels need counts of|labelled picture of woman was|counts are numbers of pic"):
        Confusion(("man", "woman"), counts)


def test_a_matrix_is_read_back():
    held = Confusion(("man", "woman"), ((9, 1), (2, 8)), "scenes", (0, 3))
    assert Confusion.from_data(held.data()) == held
    assert held.accuracy == pytest.approx(0.85) and held.total == 20
    assert "85.0%, of 20 pictures (scenes), 3 more unread" in str(held)
    with pytest.raises(BadInput, match="not a confusion matrix"):
        Confusion.from_data({"labels": ["a", "b"]})


def test_evenness_by_hand():
    assert entropy([0.25] * 4) == 2 and entropy([1.0, 0.0]) == 0
    assert effective([0.5, 0.5, 0.0]) == pytest.approx(2)
    assert imbalance([0.5, 0.5]) == 0 and imbalance([1.0, 0.0]) == 1
    assert imbalance([0.7, 0.3]) == pytest.approx(2 * abs(0.7 - 0.5))
    assert majority([0.4, 0.6]) == 1 and majority([0.5, 0.5]) is None and majority([0.4, 0.4, 0.2]) is None
