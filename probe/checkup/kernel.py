"""Whether the fused attention of a device gives the sums of its rows, and how right shares are by them."""

import torch

from probe.attach.waist import FEW, Call, fused, probabilities

TYPES = (torch.float32, torch.float16, torch.bfloat16)
SIDE, WIDTH = 2 * FEW, 64  # rows and columns, so many that the kernel's own sums are taken
RIGHT = 1e-4  # shares that are farther off than this come from sums that mean something else


def errors() -> dict[str, float | None]:
    """By type, how far shares by the kernel's sums are from the softmax in float64; None where it gives no sums."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {str(dtype).removeprefix("torch."): _error(device, dtype) for dtype in TYPES}


def told(found: dict[str, float | None]) -> str:
    """The errors in words."""
    parts = (f"{name} " + ("computed anew" if off is None else f"within {off:.0e}") for name, off in found.items())
    return f"sums of the fused attention: {', '.join(parts)}"


def wrong(found: dict[str, float | None]) -> list[str]:
    """What does not hold, and the remedy."""
    bad = [name for name, off in found.items() if off is not None and not off < RIGHT]
    remedy = "report it, and until then choose another kernel: torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
    return [f"the sums of the fused attention are wrong in {', '.join(bad)}: {remedy}"] if bad else []


def _error(device: str, dtype: torch.dtype) -> float | None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, SIDE, WIDTH, generator=draw).to(device, dtype) for _ in range(3))
    call = Call("", 0, q, k, v, None, WIDTH**-0.5, False, 0.0)
    both = fused(call)
    if both is None:
        return None
    p = probabilities(call, slice(None), torch.arange(SIDE, device=device), both[1])
    exact = (q.cpu().double() @ k.cpu().double().transpose(-1, -2) * call.scale).softmax(-1)
    return float((p.cpu().double() - exact).abs().max())
