"""Numbers that the host has to know of tensors on a device: read once, for each reading would make it wait."""

from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")
_read: MutableMapping[Tensor, dict[Any, Any]] = WeakIdKeyDictionary()


def once(tensor: Tensor, key: Any, make: Callable[[], T]) -> T:
    """What is made of a tensor that nobody writes to: made once, under this key."""
    known = _read.setdefault(tensor, {})
    if key not in known:
        known[key] = make()
    return known[key]


def numbers(tensor: Tensor) -> list[float]:
    """A schedule's values [n]."""
    return once(tensor, "numbers", lambda: [float(value) for value in tensor.tolist()])


def number(timestep: Any, schedule: Tensor) -> float:
    """A timestep, for all rows the same; of one that was taken from the schedule nothing is read from the device."""
    if not isinstance(timestep, Tensor):
        return float(timestep)
    place = timestep.storage_offset() - schedule.storage_offset()
    own = timestep.untyped_storage().data_ptr() == schedule.untyped_storage().data_ptr()
    if own and timestep.dtype == schedule.dtype and schedule.stride() == (1,) and 0 <= place < len(schedule):
        return numbers(schedule)[place]
    return float(timestep.flatten()[0])
