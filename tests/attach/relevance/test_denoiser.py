"""Relevancy: the shortcut equals explicit autograd, and the identities of the rules hold on real denoisers."""

import pytest
import torch

from probe.attach.model.attention import attention_modules
from probe.attach.model.families import FAMILIES
from probe.attach.relevance.denoiser import (
    Field,
    Seat,
    carried,
    joined,
    normalised,
    propagate,
    relevance,
    resized,
    weighted,
)
from probe.attach.relevance.tape import Event
from probe.attach.relevance.unrolled import Softmaxes
from probe.attach.waist import Call, Waist, plain, scores
from probe.errors import BadInput, UnknownFamily
from tests import pipelines

UNET = FAMILIES["UNet2DConditionModel"]
FLUX = FAMILIES["FluxTransformer2DModel"]


def draw(rows: int = 12, columns: int = 7, heads: int = 2, groups: int = 2, seed: int = 0) -> Call:
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(1, heads, rows, 8, generator=rng, requires_grad=True)
    k, v = (torch.randn(1, groups, columns, 8, generator=rng, requires_grad=True) for _ in range(2))
    return Call("site", 0, q, k, v, None, 8**-0.5, False, 0.0)


def attended(*calls: Call) -> tuple[list[Event], list[torch.Tensor]]:
    """Events of calls that ran, with gradients."""
    rng = torch.Generator().manual_seed(5)
    events = [Event("attend", call, plain(call)) for call in calls]
    return events, [torch.randn(1, 2, call.rows, 8, generator=rng) for call in calls]


def field(rows: int, tokens: int, grid=(3, 4), own=None) -> Field:
    return Field(grid, torch.zeros(rows, tokens), torch.rand(tokens, tokens).add(0.1), own)


def seat(text: int, family=UNET) -> Seat:
    return Seat("sample", "encoder_hidden_states", (3, 4), family, text)


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
    with torch.no_grad():
        torch.testing.assert_close(weighted(call, weight, slice(None)), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_chunks_change_nothing(monkeypatch):
    call, G, R = draw(), torch.randn(1, 2, 12, 8), torch.rand(7, 5)
    whole = carried(call, G, R)
    monkeypatch.setattr("probe.attach.waist.CHUNK", 30)
    torch.testing.assert_close(carried(call, G, R), whole)


def test_the_add_rule():
    R, skip = torch.full((4, 3), 3.0), torch.full((4, 3), -1.0)
    torch.testing.assert_close(joined(R, skip, 3.0, 1.0), torch.full((4, 3), 2.0))
    assert torch.equal(joined(R, skip, 0.0, 0.0), R)


def test_normalised_rows_sum_to_one_or_stay_zero():
    R_hat = torch.tensor([[1.0, 3.0], [0.0, 0.0], [0.0, 1e-30]])
    assert torch.equal(normalised(R_hat), torch.tensor([[0.25, 0.75], [0.0, 0.0], [0.0, 1.0]]))


def test_resizing_means_and_copies():
    R = torch.arange(8.0).reshape(4, 2)  # a 2 x 2 plane of two tokens
    up = resized(R, (2, 2), (4, 4))
    assert up.shape == (16, 2) and torch.equal(up[0], R[0]) and torch.equal(up[-1], R[-1])
    torch.testing.assert_close(resized(up, (4, 4), (2, 2)), R)


def test_resizing_relevance_between_cells_keeps_the_sum_of_every_row():
    own = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    whole = Field((4, 4), torch.zeros(16, 1), torch.eye(1), own)
    down = whole.resized((2, 2))
    expected = resized(own.sum(1, keepdim=True), (4, 4), (2, 2))
    torch.testing.assert_close(down.own.sum(1, keepdim=True), expected)
    torch.testing.assert_close(down.resized((4, 4)).own.sum(1, keepdim=True), resized(expected, (2, 2), (4, 4)))
    identity = Field((4, 4), torch.zeros(16, 1), torch.eye(1), torch.eye(16)).resized((2, 2))
    torch.testing.assert_close(identity.own, torch.eye(4))


def test_without_events_nothing_is_relevant():
    assert float(propagate([], [], field(12, 5), seat(5)).R.abs().sum()) == 0.0


def test_one_cross_site_alone_is_a_bar_times_the_text():
    call, start = draw(), field(12, 7)
    events, G = attended(call)
    expected = weighted(call, G[0], slice(None)) @ start.text
    torch.testing.assert_close(propagate(events, G, start, seat(7)).R, expected)


def test_self_attention_multiplies_by_one_plus_a_bar():
    calls, start = (draw(), draw(12, 12, seed=1), draw(12, 12, seed=2)), field(12, 7)
    events, G = attended(*calls)
    A = [weighted(call, g, slice(None)) for call, g in zip(calls, G, strict=True)]
    expected = (torch.eye(12) + A[2]) @ (torch.eye(12) + A[1]) @ A[0] @ start.text
    torch.testing.assert_close(propagate(events, G, start, seat(7)).R, expected)


def test_the_full_rule_by_hand():
    """R_ii = (1 + A_1)(1 + A_0), then R = (1 + rownorm(R_ii - 1))^T A_2 R_tt."""
    calls, start = (draw(12, 12), draw(12, 12, seed=1), draw(seed=2)), field(12, 7, own=torch.zeros(12, 12))
    events, G = attended(*calls)
    A = [weighted(call, g, slice(None)) for call, g in zip(calls, G, strict=True)]
    one = torch.eye(12)
    R_hat = (one + A[1]) @ (one + A[0]) - one
    R_bar = one + R_hat / R_hat.sum(1, keepdim=True)
    torch.testing.assert_close(propagate(events, G, start, seat(7)).R, R_bar.T @ A[2] @ start.text)


def test_without_self_attention_the_full_rule_is_the_short_one():
    start = field(12, 7)
    events, G = attended(draw())
    full = Field(start.grid, start.R, start.text, torch.zeros(12, 12))
    torch.testing.assert_close(propagate(events, G, full, seat(7)).R, propagate(events, G, start, seat(7)).R)


def test_joint_blocks_are_the_product_of_one_plus_a_bar():
    calls, start = (draw(19, 19), draw(19, 19, seed=1)), field(12, 7)
    events, G = attended(*calls)
    A = [weighted(call, g, slice(None)) for call, g in zip(calls, G, strict=True)]
    whole = torch.cat([start.text, torch.zeros(12, 7)])  # FLUX has the text first
    expected = (torch.eye(19) + A[1]) @ (torch.eye(19) + A[0]) @ whole
    end = propagate(events, G, start, seat(7, FLUX))
    torch.testing.assert_close(end.R, expected[7:])
    torch.testing.assert_close(end.text, expected[:7])


def test_attention_that_fits_nothing_is_an_error():
    events, G = attended(draw(12, 9))
    with pytest.raises(UnknownFamily, match=r"12 rows to 9 columns, where the picture has 12 cells.*probe.attention"):
        propagate(events, G, field(12, 7), seat(7))


def test_the_whole_of_a_joint_denoiser_equals_explicit_autograd():
    """FLUX, all five blocks: every softmax kept, differentiated and multiplied out in the open."""
    pipe = pipelines.pipeline("flux1")
    rng = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.zeros(6), torch.arange(6) // 3, torch.arange(6) % 3], 1)
    given = {
        "hidden_states": torch.randn(1, 6, 16, generator=rng),
        "encoder_hidden_states": torch.randn(1, 5, 32, generator=rng),
        "pooled_projections": torch.randn(1, 32, generator=rng),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.0]),
        "img_ids": ids,
        "txt_ids": torch.zeros(5, 3),
    }
    where = Seat("hidden_states", "encoder_hidden_states", (2, 3), FLUX, 5)
    R = relevance(pipe.transformer, given, seat=where, target=lambda out: (out**2).sum())
    torch.testing.assert_close(R, explicit(pipe.transformer, given)[5:, :5], rtol=1e-3, atol=1e-4)


def explicit(denoiser, given) -> torch.Tensor:
    """Product of 1 + A-bar over all joint attention, each A a tensor of the graph."""
    found: list[torch.Tensor] = []

    def spelt(call: Call) -> torch.Tensor:
        return scores(call, slice(None), torch.arange(call.columns)).softmax(-1) @ call.v

    waist = Waist(lambda call, lse: None, lambda path: True, spelt)
    handles = [h for path, part in attention_modules(denoiser).items() for h in waist.hooks(part, path)]
    with Softmaxes(found.append):
        y = (denoiser(**given, return_dict=False)[0] ** 2).sum()
    for handle in handles:
        handle.remove()
    R = torch.eye(found[0].shape[-1])
    for A, G in zip(found, torch.autograd.grad(y, found), strict=True):
        R = R + (A * G).clamp(min=0).mean(1)[0] @ R
    return R.detach()


@pytest.fixture(scope="module")
def case():
    unet = pipelines.pipeline("sd1").unet
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 16, 24, generator=rng)
    states = torch.randn(1, 77, unet.config.cross_attention_dim, generator=rng)
    return unet, {"sample": x, "timestep": torch.tensor(500), "encoder_hidden_states": states}


def square(out: torch.Tensor) -> torch.Tensor:
    return (out**2).sum()


def run(unet, given, target=square, **more):
    where = Seat("sample", "encoder_hidden_states", (16, 24), UNET, 77)
    return relevance(unet, given, seat=where, target=target, **more)


def test_relevancy_is_at_the_latents_resolution_and_positive(case):
    R = run(*case)
    assert R.shape == (16 * 24, 77)
    assert float(R.min()) >= 0 and float(R.max()) > 0


def test_text_that_rests_on_itself_changes_nothing_and_other_text_multiplies(case):
    R, kept = run(*case), run(*case, through=lambda G: torch.eye(77))
    assert torch.equal(kept, R)
    mixing = torch.rand(77, 77, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(run(*case, through=lambda G: mixing), R @ mixing, rtol=1e-4, atol=1e-5)


def test_the_gradient_that_goes_on_is_that_of_the_text_states(case):
    unet, given = case
    seen: list[torch.Tensor] = []
    run(unet, given, through=lambda G: seen.append(G) or torch.eye(77))
    E = given["encoder_hidden_states"].clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(square(unet(**(given | {"encoder_hidden_states": E})).sample), E)
    torch.testing.assert_close(seen[0], expected[0], rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_permuting_the_tokens_permutes_the_columns(case):
    unet, given = case
    order = torch.randperm(77, generator=torch.Generator().manual_seed(1))
    shuffled = given | {"encoder_hidden_states": given["encoder_hidden_states"][:, order]}
    torch.testing.assert_close(run(unet, shuffled), run(unet, given)[:, order], atol=1e-5, rtol=1e-4)


def test_identical_tokens_share(case):
    unet, given = case
    states = given["encoder_hidden_states"].clone()
    states[:, 7] = states[:, 3]
    R = run(unet, given | {"encoder_hidden_states": states})
    torch.testing.assert_close(R[:, 7], R[:, 3])


def test_the_full_rule_adds_to_the_short_one(case):
    full, short = run(*case, self_rule=True), run(*case)
    assert bool((full >= short - 1e-6).all()) and float(full.sum()) > float(short.sum())


def test_the_full_rule_is_for_small_grids(case, monkeypatch):
    monkeypatch.setattr("probe.attach.relevance.denoiser.SELF_CELLS", 100)
    with pytest.raises(BadInput, match=r"at most 100 of them; here are 16 x 24"):
        run(*case, self_rule=True)


def test_a_target_without_a_gradient_has_no_relevancy(case):
    assert float(run(*case, lambda out: (out * 0).sum()).abs().max()) == 0.0


def test_nothing_is_left_on_the_denoiser(case):
    unet, given = case
    asking = [p.requires_grad for p in unet.parameters()]
    run(unet, given, lambda out: out.sum())
    with pytest.raises(ZeroDivisionError):
        run(unet, given, lambda out: out.sum() / (1 // 0))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())
    assert [p.requires_grad for p in unet.parameters()] == asking
    assert all(p.grad is None for p in unet.parameters())
    assert torch._C._len_torch_function_stack() == 0
