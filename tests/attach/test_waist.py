"""The waist: exact columns without the full matrix, the plain output to the bit, and nothing left behind."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from probe.attach import waist
from probe.attach.waist import Call, Waist, log_sum_exp, probabilities


def draw(seed: int, heads: int = 4, groups: int = 4, rows: int = 24, columns: int = 17, width: int = 8):
    """q, k, v with named shapes."""
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(2, heads, rows, width, generator=rng)
    k, v = (torch.randn(2, groups, columns, width, generator=rng) for _ in range(2))
    return q, k, v


def call(q, k, v, mask=None, causal=False) -> Call:
    return Call("site", 0, q, k, v, mask, q.shape[-1] ** -0.5, causal, 0.0)


def softmax64(q, k, mask=None, causal=False) -> torch.Tensor:
    """The whole matrix, the slow and plain way."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    s = q.double() @ k.double().transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        s = s.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else s + mask.double()
    if causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return s.softmax(-1)


def masks(columns: int) -> dict[str, torch.Tensor | None]:
    keep = torch.ones(2, 1, 1, columns, dtype=torch.bool)
    keep[1, ..., 12:] = False
    return {"none": None, "bool": keep, "additive": torch.zeros(keep.shape).masked_fill(~keep, -10_000.0)}


@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
@pytest.mark.parametrize("groups", [4, 2])
def test_columns_equal_the_explicit_softmax(kind, groups):
    q, k, v = draw(0, groups=groups)
    mask, columns = masks(17)[kind], torch.tensor([1, 5, 13])
    p = probabilities(call(q, k, v, mask), slice(None), columns)
    torch.testing.assert_close(p.double(), softmax64(q, k, mask)[..., columns], atol=1e-6, rtol=0)


def test_causal_columns():
    q, k, v = draw(1, columns=24)
    p = probabilities(call(q, k, v, causal=True), slice(4, 20), torch.tensor([0, 9]))
    torch.testing.assert_close(p.double(), softmax64(q, k, causal=True)[:, :, 4:20][..., [0, 9]], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("columns", "exact", "off"), [(77, False, 1e-6), (200, True, 1e-6), (200, False, 2e-5)], ids=["few", "exact", "lse"]
)
def test_scores_that_are_large_are_read_to_the_last_digits(columns: int, exact: bool, off: float):
    q, k, v = draw(8, rows=64, columns=columns, width=32)
    q, k = 5 * q, 5 * k
    module = Attending()
    _, seen, remove = watched(module)
    module(q, k, v)
    remove()
    largest = float((q @ k.transpose(-1, -2)).abs().max()) * q.shape[-1] ** -0.5
    p = probabilities(seen[0][0], slice(8, 60), torch.tensor([0, 5, 70]), seen[0][1], exact=exact)
    difference = (p.double() - softmax64(q, k)[:, :, 8:60][..., [0, 5, 70]]).abs().max()
    assert largest > 100 and float(difference) < off


def test_few_columns_are_taken_in_chunks_of_rows(monkeypatch):
    one = call(*draw(9))
    whole = probabilities(one, slice(3, 20), torch.tensor([2, 5]))
    monkeypatch.setattr("probe.attach.waist.CACHED", 64)
    torch.testing.assert_close(probabilities(one, slice(3, 20), torch.tensor([2, 5])), whole)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 30))
def test_all_columns_sum_to_one(seed, rows, columns):
    q, k, v = draw(seed, rows=rows, columns=columns)
    p = probabilities(call(q, k, v), slice(None), torch.arange(columns))
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 4, rows), atol=1e-5, rtol=0)


def test_log_sum_exp_in_chunks_is_the_same(monkeypatch):
    q, k, v = draw(2)
    whole = log_sum_exp(call(q, k, v), slice(None))
    monkeypatch.setattr("probe.attach.waist.CHUNK", 64)
    torch.testing.assert_close(log_sum_exp(call(q, k, v), slice(None)), whole)


class Attending(nn.Module):
    """A module whose forward pass is one attention call."""

    def forward(self, q, k, v, **options):
        return F.scaled_dot_product_attention(q, k, v, **options)


def watched(module: nn.Module, **options):
    """(waist, calls seen with their log-sum-exp, remove)"""
    seen: list[tuple[Call, torch.Tensor | None]] = []
    waist = Waist(lambda c, lse: seen.append((c, lse)), lambda path: True, **options)
    handles = list(waist.hooks(module, "site"))
    return waist, seen, lambda: [handle.remove() for handle in handles]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_watching_leaves_the_output_as_it_is_to_the_bit(dtype, kind):
    q, k, v = (x.to(dtype) for x in draw(3))
    mask = masks(17)[kind]
    mask = mask.to(dtype) if mask is not None and mask.is_floating_point() else mask
    module = Attending()
    plain = module(q, k, v, attn_mask=mask)
    _, seen, remove = watched(module)
    assert torch.equal(module(q, k, v, attn_mask=mask), plain)
    remove()
    p = probabilities(seen[0][0], slice(None), torch.arange(17), seen[0][1])
    torch.testing.assert_close(p.double(), softmax64(q, k, mask), atol=1e-6, rtol=0)


KERNELS = {waist.FLASH: SDPBackend.FLASH_ATTENTION, waist.EFFICIENT: SDPBackend.EFFICIENT_ATTENTION}


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernels_of_cuda_give_outputs_and_sums_of_these_shapes(kernel: int):
    """What torch itself says of its kernels, without running them: the numbers, and shapes on the meta device."""
    assert kernel == KERNELS[kernel].value
    q, k, v = (x.to("meta", torch.bfloat16) for x in draw(10, rows=50))
    both = waist.KERNELS["cuda", kernel](call(q, k, v))
    assert both is not None
    assert (both[0].shape, both[0].dtype) == (q.shape, torch.bfloat16)
    assert (both[1].shape, both[1].dtype) == (q.shape[:-1], torch.float32)
    masked = call(q, k, v, torch.zeros(2, 1, 50, 17, device="meta", dtype=torch.bfloat16))
    assert waist.KERNELS["cuda", kernel](masked) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("causal", [False, True])
def test_on_a_gpu_the_output_is_the_plain_one_and_the_sums_are_those_of_the_definition(kernel: int, causal: bool):
    q, k, v = (x.to("cuda", torch.bfloat16) for x in draw(11, rows=200, columns=200, width=64))
    module = Attending()
    _, seen, remove = watched(module)
    with sdpa_kernel(KERNELS[kernel]):
        recorded = module(q, k, v, is_causal=causal)
        remove()
        assert torch.equal(recorded, module(q, k, v, is_causal=causal))
    one, lse = seen[0]
    assert lse is not None
    p = probabilities(one, slice(8, 150), torch.arange(0, 200, 3, device="cuda"), lse)
    expected = softmax64(q.cpu(), k.cpu(), causal=causal)[:, :, 8:150, ::3]
    torch.testing.assert_close(p.cpu().double(), expected, atol=1e-5, rtol=0)


def test_a_mode_below_still_sees_the_plain_call():
    class Below(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            Below.count += func is F.scaled_dot_product_attention
            return func(*args, **(kwargs or {}))

    module = Attending()
    _, seen, remove = watched(module)
    with Below():
        module(*draw(4))
    remove()
    assert Below.count == 1 and len(seen) == 1


def test_a_changed_output_replaces_the_call():
    module = Attending()
    _, seen, remove = watched(module, changer=lambda c: torch.zeros_like(c.q))
    assert float(module(*draw(5)).abs().sum()) == 0.0
    remove()
    assert len(seen) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_call_leaves_no_mode_behind(error):
    module = Attending()

    def stop(c):
        raise error("stop")

    waist, _, remove = watched(module, changer=stop)
    with pytest.raises(error):
        module(*draw(6))
    waist.begin_pass()
    remove()
    assert torch._C._len_torch_function_stack() == 0
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_attention_is_not_watched_outside_of_the_module():
    module = Attending()
    _, seen, remove = watched(module)
    F.scaled_dot_product_attention(*draw(7))
    remove()
    assert not seen


def test_modules_that_rest_bear_no_hooks_and_the_others_keep_theirs():
    parts, seen = {"a": Attending(), "b": Attending()}, []
    waist = Waist(lambda call, lse: seen.append(call.path), lambda path: True)
    with waist.on(parts):
        for each in (set(), {"a"}, {"a"}):
            waist.rest(each)
            for part in parts.values():
                part(*draw(4))
        assert not parts["a"]._forward_hooks and not parts["a"]._forward_pre_hooks
        assert len(parts["b"]._forward_hooks) == len(parts["b"]._forward_pre_hooks) == 1
    assert seen == ["a", "b", "b", "b"] and not parts["b"]._forward_hooks and not waist.running
