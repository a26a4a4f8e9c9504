"""Relevance propagation: each rule against numbers worked out by hand, and what must be kept."""

import pytest
import torch

from probe.attach.relevance.lrp import Linear, Product, Same, Sum, propagating, safe
from probe.attach.relevance.unrolled import starting_at
from tests.pipelines import parts
from tests.tokenizers import clip_tokenizer


def back(y: torch.Tensor, R: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(y, inputs, grad_outputs=R)


@pytest.mark.parametrize(
    ("x", "w", "expected"),
    [((1, -2), (0.5, -1), (0.2, 0.8)), ((1, 2), (0.5, -1), (1, 0)), ((1, 1), (-1, -1), (0, 0))],
)
def test_linear_counts_products_of_one_sign(x, w, expected):
    leaf, weight = torch.tensor([x], dtype=torch.float64, requires_grad=True), torch.tensor([w], dtype=torch.float64)
    (R,) = back(Linear.apply(leaf, weight, leaf.detach() @ weight.T), torch.ones(1, 1, dtype=torch.float64), leaf)
    torch.testing.assert_close(R[0], torch.tensor(expected, dtype=torch.float64), atol=1e-8, rtol=0)


def test_sum_shares_by_size():
    a, b = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (3.0, -1.0))
    R_a, R_b = back(Sum.apply(a, b), torch.ones(1, dtype=torch.float64), a, b)
    assert (float(R_a), float(R_b)) == pytest.approx((0.75, 0.25), abs=1e-8)


def test_all_rules_keep_the_sum():
    rng = torch.Generator().manual_seed(0)
    a, b, c = (torch.rand(5, 5, generator=rng, dtype=torch.float64).requires_grad_(True) for _ in range(3))
    R = torch.rand(5, 5, generator=rng, dtype=torch.float64)
    for y, inputs in ((Sum.apply(a, b), (a, b)), (Product.apply(a, b), (a, b)), (Same.apply(a, c.detach()), (a,))):
        assert float(sum(part.sum() for part in back(y, R, *inputs))) == pytest.approx(float(R.sum()), rel=1e-6)
    halves = back(Product.apply(a, b), R, a, b)
    assert float(halves[0].sum()) == pytest.approx(float(R.sum()) / 2, rel=1e-6)
    (linear,) = back(Linear.apply(a, c.detach(), a.detach() @ c.detach().T), R, a)
    assert float(linear.sum()) == pytest.approx(float(R.sum()), rel=1e-6)


def test_nothing_over_nothing_is_nothing():
    assert torch.equal(safe(torch.tensor([1.0, 0.0]), torch.zeros(2)), torch.zeros(2))


def test_a_whole_encoder_keeps_the_sum_and_computes_what_it_did():
    """Relevance from the last state to the embeddings: one in, one out (no layer of this one is all negative)."""
    tokenizer = clip_tokenizer()
    encoder = parts.clip(tokenizer).double().requires_grad_(False)
    ids = tokenizer("a cat and a red balloon", return_tensors="pt").input_ids
    plain = encoder(ids).last_hidden_state
    leaves, shown = [], []
    with starting_at(encoder.get_input_embeddings(), leaves.append), propagating(encoder, shown.append):
        states = encoder(ids).last_hidden_state
    torch.testing.assert_close(states, plain, atol=1e-5, rtol=0)  # scores are float32
    start = torch.zeros_like(states)
    start[0, -1, 3] = 1.0
    R = back(states, start, leaves[0], *shown)
    assert float(R[0].sum()) == pytest.approx(1.0, abs=1e-3)
    assert len(shown) == 2 and all(float(A.triu(1).abs().max()) == 0.0 for A in R[1:])  # causal
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules())
