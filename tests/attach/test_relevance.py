"""Relevancy: the shortcut equals explicit autograd, and the identities of the rules hold on a real U-Net."""

import pytest
import torch

from probe.attach.relevance import carried, joined, propagate, relevance, resized, weighted
from probe.attach.waist import Call, plain
from tests import pipelines


def draw(rows: int = 12, columns: int = 7, heads: int = 2, groups: int = 2, seed: int = 0) -> Call:
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(1, heads, rows, 8, generator=rng, requires_grad=True)
    k, v = (torch.randn(1, groups, columns, 8, generator=rng, requires_grad=True) for _ in range(2))
    return Call("site", 0, q, k, v, None, 8**-0.5, False, 0.0)


@pytest.mark.parametrize("groups", [2, 1])
def test_weighted_attention_equals_explicit_autograd(groups):
    call = draw(groups=groups)
    weight = torch.randn(1, 2, 12, 8, generator=torch.Generator().manual_seed(9))
    k, v = (x.repeat_interleave(2 // groups, dim=1) for x in (call.k, call.v))
    A = ((call.q @ k.transpose(-1, -2)) * call.scale).softmax(-1)
    A.retain_grad()
    ((A @ v) * weight).sum().backward()
    expected = (A.grad * A).clamp(min=0).mean(1)[0]
    out = plain(call)
    (G,) = torch.autograd.grad((out * weight).sum(), out)
    assert torch.equal(G, weight)
    torch.testing.assert_close(weighted(call, weight, slice(None)), expected, atol=1e-6, rtol=0)


def test_chunks_change_nothing(monkeypatch):
    call, G, R = draw(), torch.randn(1, 2, 12, 8), torch.rand(7, 5)
    whole = carried(call, G, R)
    monkeypatch.setattr("probe.attach.relevance.CHUNK", 30)
    torch.testing.assert_close(carried(call, G, R), whole)


def test_the_add_rule():
    R, skip = torch.full((4, 3), 3.0), torch.full((4, 3), -1.0)
    torch.testing.assert_close(joined(R, skip, 3.0, 1.0), torch.full((4, 3), 2.0))
    assert torch.equal(joined(R, skip, 0.0, 0.0), R)


def test_resizing_means_and_copies():
    R = torch.arange(8.0).reshape(4, 2)  # a 2 x 2 plane of two tokens
    up = resized(R, (2, 2), (4, 4))
    assert up.shape == (16, 2) and torch.equal(up[0], R[0]) and torch.equal(up[-1], R[-1])
    torch.testing.assert_close(resized(up, (4, 4), (2, 2)), R)


def test_without_events_nothing_is_relevant():
    assert float(propagate([], [], torch.eye(5), (4, 4)).abs().sum()) == 0.0


@pytest.fixture(scope="module")
def case():
    unet = pipelines.pipeline("sd1").unet
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 16, 24, generator=rng)
    states = torch.randn(1, 77, unet.config.cross_attention_dim, generator=rng)
    return unet, {"sample": x, "timestep": torch.tensor(500), "encoder_hidden_states": states}


def run(unet, given, target):
    return relevance(unet, given, "sample", "encoder_hidden_states", target)


def test_relevancy_is_at_the_latents_resolution_and_positive(case):
    R = run(*case, lambda out: (out**2).sum())
    assert R.shape == (16 * 24, 77)
    assert float(R.min()) >= 0 and float(R.max()) > 0


def test_permuting_the_tokens_permutes_the_columns(case):
    unet, given = case
    order = torch.randperm(77, generator=torch.Generator().manual_seed(1))
    R = run(unet, given, lambda out: (out**2).sum())
    shuffled = given | {"encoder_hidden_states": given["encoder_hidden_states"][:, order]}
    permuted = run(unet, shuffled, lambda out: (out**2).sum())
    torch.testing.assert_close(permuted, R[:, order], atol=1e-5, rtol=1e-4)


def test_identical_tokens_share(case):
    unet, given = case
    states = given["encoder_hidden_states"].clone()
    states[:, 7] = states[:, 3]
    R = run(unet, given | {"encoder_hidden_states": states}, lambda out: (out**2).sum())
    torch.testing.assert_close(R[:, 7], R[:, 3])


def test_a_target_without_a_gradient_has_no_relevancy(case):
    assert float(run(*case, lambda out: (out * 0).sum()).abs().max()) == 0.0


def test_nothing_is_left_on_the_denoiser(case):
    unet, given = case
    run(unet, given, lambda out: out.sum())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())
    assert all(p.grad is None for p in unet.parameters())
