"""Paired tests: against counting all swaps, the binomial by hand, identities, and how often intervals hold."""

import math
from itertools import product

import numpy as np
import pytest

from probe.bias.paired import compare, holm, newcombe, swap_test
from probe.errors import BadInput


def test_mcnemar_counts_only_what_differs():
    first = [True] * 10 + [False] * 8
    second = [True] * 9 + [False] * 1 + [True] * 6 + [False] * 2
    found = compare(first, second)
    assert (found.gained, found.lost, found.pairs) == (6, 1, 18)
    by_hand = 2 * sum(math.comb(7, k) for k in (0, 1)) / 2**7
    assert found.p == pytest.approx(by_hand)
    assert found.difference.value == pytest.approx(5 / 18)


def test_nothing_differs():
    found = compare([True, False] * 5, [True, False] * 5)
    assert found.p == 1.0 and found.difference.low < 0 < found.difference.high


def test_the_other_way_round_is_the_mirror_image():
    rng = np.random.default_rng(0)
    one, two = rng.random(60) < 0.3, rng.random(60) < 0.5
    there, back = compare(one.tolist(), two.tolist()), compare(two.tolist(), one.tolist())
    assert there.p == back.p
    assert there.difference.low == pytest.approx(-back.difference.high)


def test_newcombe_by_hand():
    found = newcombe(((20, 2), (12, 16)))  # shares 22/50, then 32/50
    low = 0.2 - math.sqrt(_joined(0.64 - 0.501405, 0.576910 - 0.44))
    assert found.low == pytest.approx(low, abs=1e-4)


def _joined(x: float, y: float) -> float:
    phi = (20 * 16 - 2 * 12 - 25) / math.sqrt(22 * 28 * 32 * 18)
    return x * x - 2 * phi * x * y + y * y


def test_the_interval_of_a_difference_holds_it():
    rng, held = np.random.default_rng(2), 0
    for _ in range(300):
        shared = rng.random(80)
        one, two = shared < 0.6, np.where(rng.random(80) < 0.7, shared, rng.random(80)) < 0.75
        found = compare(one.tolist(), two.tolist()).difference
        held += found.low <= 0.15 <= found.high
    assert held / 300 >= 0.92


def test_swaps_are_those_of_every_sign():
    first, second = list("abcabca"), list("bbcbbcb")
    step = np.asarray([[(b == x) - (a == x) for x in "abc"] for a, b in zip(first, second, strict=True)], float)
    signs = np.asarray(list(product((-1, 1), repeat=len(step))))
    drawn = np.abs(signs @ step / len(step)).sum(1)
    distance, p = swap_test(first, second, draws=20_000)
    assert distance == pytest.approx(np.abs(step.mean(0)).sum())
    assert p == pytest.approx((drawn >= distance - 1e-12).mean(), abs=0.02)


def test_swaps_find_no_difference_where_none_is():
    assert swap_test(list("aabb"), list("aabb")) == (0.0, 1.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("test", [compare, swap_test])
def test_what_is_no_pair_is_refused(test):
    for first, second in (([], []), ([True], [True, False])):
        with pytest.raises(BadInput, match="do not pair up; compare the same seeds"):
            test(first, second)
