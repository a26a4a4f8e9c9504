"""InitNO: its terms by hand, and the search for a noise."""

import numpy as np
import pytest
import torch

from probe.attach.change.noise import better_noise, kl
from probe.intervention import Maps, Score, Search
from probe.nurse import InitNO
from probe.nurse.initno import otsu, outside

POSITIONS = {"cat": (2,), "dog": (5,)}


def maps(cat: tuple[int, int], dog: tuple[int, int], S: torch.Tensor | None = None) -> Maps:
    """Two subjects, each sharp in a 3 x 3 block around a cell."""
    A = torch.zeros(16, 16, 12)
    for position, (y, x) in ((2, cat), (5, dog)):
        A[y - 1 : y + 2, x - 1 : x + 2, position] = 1.0
    return Maps(A.requires_grad_(True), POSITIONS, 8, S=torch.ones(256, 16, 16) / 256 if S is None else S)


def test_otsu_cuts_two_levels_apart():
    values = np.array([0.1, 0.12, 0.11, 0.9, 0.88])
    assert (values > otsu(values)).tolist() == [False, False, False, True, True]


def test_what_lies_outside_of_the_strongest_piece():
    plane = torch.zeros(8, 8)
    plane[1:3, 1:3], plane[6, 6] = 1.0, 1.1
    plane[1, 1] = 1.2
    assert float(outside(plane)) == pytest.approx(1.1)
    for weaker in (0.9, 0.0):  # below all that the strongest piece holds
        plane[6, 6] = weaker
        assert float(outside(plane)) == 0.0


def test_equal_rows_are_in_conflict_by_a_half_and_disjoint_ones_are_not():
    alike = InitNO(subjects=("cat", "dog")).score(maps((3, 3), (12, 12)))
    assert alike.terms["conflict"] == pytest.approx(0.5)
    S = torch.zeros(256, 16, 16)
    S[3 * 16 + 3, :8], S[12 * 16 + 12, 9:] = 1.0, 1.0
    apart = InitNO(subjects=("cat", "dog")).score(maps((3, 3), (12, 12), S))
    assert apart.terms["conflict"] == pytest.approx(0.0, abs=0.06)  # smoothing lets the edges touch
    assert apart.terms["response"] == pytest.approx(0.0, abs=1e-5)
    assert float(apart.loss.detach()) < float(alike.loss.detach())


def test_conflict_counts_once_there_is_a_response():
    method = InitNO(subjects=("cat", "dog"))
    strong = method.noise_score(maps((3, 3), (12, 12)))
    total = strong.terms["response"] + strong.terms["clean"] + strong.terms["conflict"]
    assert strong.value == pytest.approx(total)
    weak = Maps(torch.zeros(16, 16, 12, requires_grad=True), POSITIONS, 8, S=torch.ones(256, 16, 16))
    score = method.noise_score(weak)
    assert score.terms["response"] > 0.5 and score.value == pytest.approx(
        score.terms["response"] + score.terms["clean"]
    )


def test_one_subject_has_no_conflict():
    score = InitNO(subjects=("cat",)).score(maps((3, 3), (12, 12)))
    assert score.terms["conflict"] == 0.0


def test_the_divergence_from_plain_noise_by_hand():
    assert float(kl(torch.zeros(4), torch.zeros(4))) == 0.0
    mu, logvar = torch.tensor([0.5]), torch.tensor([0.2])
    assert float(kl(mu, logvar)) == pytest.approx((0.25 + np.exp(0.2) - 1 - 0.2) / 2, rel=1e-5)


class Towards(InitNO):
    """A loss with a known minimum: the mean is to be 1."""

    def noise_score(self, maps: Maps) -> Score:
        raise NotImplementedError

    def good(self, score: Score) -> bool:
        return score.value < 0.5


def test_the_search_lowers_the_loss_and_stays_near_plain_noise():
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    how = Search(rounds=1, iterations=5, last=20, kl=1e-3)
    found, losses = better_noise(lambda z: Score(((z - 1) ** 2).mean()), noise, Towards(subjects=("a",), search=how))
    assert len(losses) == 25 and losses[-1] < losses[0]
    assert float((found - noise).pow(2).mean()) < 4 * 2e-3  # KL of 1e-3 allows a squared shift of about 2e-3


def test_a_good_noise_is_left_as_it_is():
    noise = torch.ones(1, 4, 4, 4)
    found, losses = better_noise(lambda z: Score(((z - 1) ** 2).mean()), noise, Towards(subjects=("a",)))
    assert torch.equal(found, noise) and losses == [0.0]


def tries(first: torch.Tensor, seed: int = 0) -> list[torch.Tensor]:
    """The noises that a search looks at which never finds a good one."""
    tried: list[torch.Tensor] = []

    def look(z: torch.Tensor) -> Score:
        tried.append(z.detach().clone())
        return Score((z**2).mean() + 1)

    how = Search(rounds=3, iterations=1, last=1, seed=seed)
    better_noise(look, first, Towards(subjects=("a",), search=how))
    return tried


def test_further_noises_come_from_the_seed_and_the_first_one_and_differ():
    first = torch.zeros(1, 1, 2, 2)
    one, again, reseeded, other = tries(first), tries(first), tries(first, seed=1), tries(first + 1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.allclose(one[1], one[2])
    assert not torch.allclose(one[1], reseeded[1])
    assert not torch.allclose(one[1], other[1])  # else two pictures that start badly would come out the same
