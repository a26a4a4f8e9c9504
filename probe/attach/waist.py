"""The waist: the one place where attention is seen or changed.

Every attention layer of every current diffusers denoiser ends in one torch call. A `TorchFunctionMode` around that
call, switched on only while an attention module of the denoiser runs, sees all of it; no processor is replaced, so
LoRA, IP-Adapter, PAG and models not yet released keep their own.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from probe.attach.borrow import here
from probe.attach.precision import lowered, own_precision

FLASH, EFFICIENT = 1, 2  # torch's numbers for its fused kernels, as `_fused_sdp_choice` returns them
CHUNK = 1 << 24  # scores at a time where no fused kernel gives its log-sum-exp
FEW = 128  # columns, such as the 77 of CLIP, of which a softmax of their own costs next to nothing
CACHED = 1 << 19  # scores of theirs at a time


@dataclass(slots=True)
class Call:
    """One attention call: q [b, h, n, d], k and v [b, g, m, d], where g divides h."""

    path: str
    rank: int  # 0 for the first call of its module in this forward pass, 1 for the second, ...
    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    scale: float
    causal: bool
    dropout: float

    @property
    def rows(self) -> int:
        """Number of queries."""
        return self.q.shape[-2]

    @property
    def columns(self) -> int:
        """Number of keys."""
        return self.k.shape[-2]

    @property
    def heads(self) -> int:
        return self.q.shape[-3]

    def keys(self, columns: "Columns") -> Tensor:
        """[b, h, t, d]: the keys of chosen columns, repeated over grouped heads."""
        chosen = _picked(self.k, columns, -2)
        groups = self.heads // self.k.shape[-3]
        return chosen.repeat_interleave(groups, dim=-3) if groups > 1 else chosen

    def bias(self, rows: slice, columns: "Columns") -> Tensor | None:
        """The additive mask at chosen rows and columns, or None."""
        if self.mask is None:
            return None
        chosen = _picked(self.mask, columns, -1) if self.mask.shape[-1] > 1 else self.mask
        chosen = chosen[..., rows, :] if chosen.shape[-2] > 1 else chosen
        if chosen.dtype == torch.bool:
            return torch.zeros_like(chosen, dtype=torch.float32).masked_fill(~chosen, -torch.inf)
        return chosen.float()


Columns = Tensor | slice  # indices of columns, or a run of them, which is a view and no copy
ALL = slice(None)
Reader = Callable[[Call, Tensor | None], None]
Changer = Callable[[Call], Tensor | None]


def _picked(x: Tensor, columns: Columns, axis: int) -> Tensor:
    """`x` at chosen places of an axis that is counted from the last, which is -1."""
    if isinstance(columns, Tensor):
        return x.index_select(axis, columns)
    return x[..., columns, *[ALL] * (-1 - axis)]


@own_precision()
def scores(call: Call, rows: slice, columns: Columns, dtype: torch.dtype = torch.float32) -> Tensor:
    """S = scale * Q K^T + mask at chosen rows and columns: [b, h, n, t] of `dtype`."""
    s = call.q[..., rows, :].to(dtype) @ (call.keys(columns).to(dtype) * call.scale).transpose(-1, -2)
    bias = call.bias(rows, columns)
    s = s if bias is None else s + bias
    if call.causal:
        number = torch.arange(max(call.rows, call.columns), device=s.device)
        below = number[: call.rows][rows, None] >= number[: call.columns][columns]
        s = s.masked_fill(~below, -torch.inf)
    return s


def probabilities(
    call: Call, rows: slice, columns: Columns, lse: Tensor | None = None, *, exact: bool = False
) -> Tensor:
    """P[:, columns] = exp(S[:, columns] - lse): [b, h, n, t] float32, without the full matrix.

    `lse` [b, h, n] is the log-sum-exp of each row over all columns, as the fused kernel returns it: a float32, so P is
    off by the share by which float32 misses it, 7e-6 where scores reach 100. Few columns, and any number of them if
    `exact`, have their sum taken anew, of float64 scores where q is a float32 on the CPU.
    """
    wide = widest(call)
    if exact or call.columns <= FEW:
        each = [_picked(_shares(call, part, lse, wide), columns, -1) for part in chunks(call, rows, CACHED)]
        return torch.cat(each, dim=-2) if len(each) > 1 else each[0]
    lse = log_sum_exp(call, rows) if lse is None else lse[..., rows]
    return torch.exp(scores(call, rows, columns, wide) - lse[..., None]).float()


def widest(call: Call) -> torch.dtype:
    """What scores are taken in where their last digits count: float64 where q is a float32 on the CPU, else float32."""
    return torch.float64 if call.q.device.type == "cpu" and call.q.dtype == torch.float32 else torch.float32


def _shares(call: Call, rows: slice, lse: Tensor | None, wide: torch.dtype) -> Tensor:
    """P at chosen rows [b, h, r, m], float32; about 0 is where float32 is fine, so the scores are moved there first."""
    s = scores(call, rows, ALL, wide)
    s -= s.amax(-1, keepdim=True) if lse is None else lse[..., rows, None]
    return s.float().softmax(-1)


def chunks(call: Call, rows: slice, size: int | None = None, *, columns: slice = ALL) -> list[slice]:
    """The rows in chunks of about `size` scores (None: CHUNK) at these columns."""
    start, stop, _ = rows.indices(call.rows)
    in_a_row = call.q.shape[0] * call.heads * len(range(*columns.indices(call.columns)))
    each = max(1, (size or CHUNK) // in_a_row)
    return [slice(i, min(i + each, stop)) for i in range(start, stop, each)]


def log_sum_exp(call: Call, rows: slice, dtype: torch.dtype = torch.float32) -> Tensor:
    """[b, h, n] of `dtype`: log of the sum over all columns, in chunks of rows."""
    each = [torch.logsumexp(scores(call, part, ALL, dtype), dim=-1) for part in chunks(call, rows)]
    return torch.cat(each, dim=-1)


def fused(call: Call) -> tuple[Tensor, Tensor] | None:
    """(output, lse [b, h, n]) of the fused kernel that the plain call would use: the same output to the bit.

    None where it would use none, or one that is not known to give its sums.
    """
    alone = torch._C._len_torch_function_stack() == 0  # a mode below ours must still see the plain call
    plain = alone and call.q.ndim == 4 and call.k.shape[-3] == call.heads
    if not plain or call.q.device.type not in ("cpu", "cuda"):
        return None
    choice = torch._fused_sdp_choice(*_choice(call), scale=call.scale)
    kernel = KERNELS.get((call.q.device.type, choice))
    return None if kernel is None else kernel(call)


def _flash_on_cpu(call: Call) -> tuple[Tensor, Tensor]:
    mask = call.mask
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=call.q.dtype).masked_fill(~mask, -torch.inf)
    return torch._scaled_dot_product_flash_attention_for_cpu(
        call.q, call.k, call.v, call.dropout, call.causal, attn_mask=mask, scale=call.scale
    )


def _flash_on_cuda(call: Call) -> tuple[Tensor, Tensor] | None:
    """It takes no mask; heads whose width is no multiple of 8 are padded around it, which is left to the plain call."""
    if call.mask is not None or call.q.shape[-1] % 8:
        return None
    out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        call.q, call.k, call.v, call.dropout, call.causal, scale=call.scale
    )
    return out, lse


def _efficient_on_cuda(call: Call) -> tuple[Tensor, Tensor] | None:
    """Without a mask: one is brought to the kernel's alignment by the plain call. Its sums lie in rows of 32."""
    if call.mask is not None:
        return None
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        call.q, call.k, call.v, None, True, call.dropout, call.causal, scale=call.scale
    )
    return out, lse[..., : call.rows]


KERNELS: dict[tuple[str, int], Callable[[Call], tuple[Tensor, Tensor] | None]] = {
    ("cpu", FLASH): _flash_on_cpu,
    ("cuda", FLASH): _flash_on_cuda,
    ("cuda", EFFICIENT): _efficient_on_cuda,
}


def plain(call: Call) -> Tensor:
    """The call as it was made, for a changer that wants its output."""
    grouped = call.k.shape[-3] != call.heads
    return F.scaled_dot_product_attention(
        call.q, call.k, call.v, call.mask, call.dropout, call.causal, scale=call.scale, enable_gqa=grouped
    )


def _choice(call: Call) -> tuple[Tensor, Tensor, Tensor, Tensor | None, float, bool]:
    return call.q, call.k, call.v, call.mask, call.dropout, call.causal


class Waist(TorchFunctionMode):
    """Shows each attention call of the running module to a reader, and lets a changer give another output.

    `reader(call, lse)` is called for every call whose path `wants` accepts; `changer(call)` may return an output.
    """

    def __init__(self, reader: Reader, wants: Callable[[str], bool], changer: Changer | None = None):
        super().__init__()
        self.reader, self.wants, self.changer = reader, wants, changer
        self.running: list[str] = []
        self.ranks: dict[str, int] = {}
        self.ran: set[str] = set()
        self.idle: set[str] = set()  # modules that were seen and hold nothing of interest: left alone
        self.handles: dict[str, list[RemovableHandle]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention or not self.running or not self.wants(self.running[-1]):
            return func(*args, **(kwargs or {}))
        return self._attend(func, *args, **(kwargs or {}))

    def _attend(
        self,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        path = self.running[-1]
        rank = self.ranks.get(path, 0)
        self.ranks[path] = rank + 1
        used = query.shape[-1] ** -0.5 if scale is None else scale
        query, key, value = lowered(query), lowered(key), lowered(value)
        attn_mask = None if attn_mask is None else lowered(attn_mask)
        call = Call(path, rank, query, key, value, attn_mask, used, is_causal, dropout_p)
        more: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
        out, lse = self.changer(call) if self.changer is not None else None, None
        if out is None:
            out, lse = fused(call) or (func(query, key, value, attn_mask, dropout_p, is_causal, **more), None)
        self.reader(call, lse)
        return out

    def rest(self, paths: Set[str]) -> None:
        """From now on these modules, none of which runs, are left alone."""
        for path in paths - self.idle:
            for handle in self.handles.pop(path, ()):
                handle.remove()
        self.idle |= paths

    def enter(self, path: str) -> None:
        """An attention module starts."""
        self.running.append(path)
        self.ran.add(path)
        self.__enter__()

    def leave(self) -> None:
        """It ends, well or not."""
        if self.running:
            self.running.pop()
            self.__exit__(None, None, None)

    def begin_pass(self) -> None:
        """A forward pass of the denoiser starts: what an interrupted one left is taken off."""
        while self.running:
            self.leave()
        self.ranks.clear()
        self.ran.clear()

    @contextmanager
    def on(self, parts: Mapping[str, nn.Module]) -> Iterator[None]:
        """Inside, the attention modules are watched, each under its path."""
        with ExitStack() as stack:
            stack.callback(self.begin_pass)
            for path, part in parts.items():
                for handle in self.hooks(part, path):
                    self.handles.setdefault(path, []).append(handle)
                    stack.callback(handle.remove)
            yield

    def hooks(self, module: nn.Module, path: str) -> Iterator[RemovableHandle]:
        """Put on the two hooks that say when an attention module runs, one by one, so that no handle gets lost."""
        yield module.register_forward_pre_hook(here(lambda *_: self.enter(path)))
        yield module.register_forward_hook(here(lambda *_: self.leave()), always_call=True)
