"""What was found by variable, step, picture and word: on the model's device while it runs, then a node of the trace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from probe.axes import FRAME, IMAGE, STEP, WORD, X, Y

Key = tuple[int, int, str]  # step, image, word; "" for what is no word's


@dataclass
class Findings:
    """Numbers and planes [y, x], of films [frame, y, x]."""

    values: dict[str, dict[Key, Tensor]] = field(default_factory=dict)

    def note(self, name: str, key: Key, value: Tensor) -> None:
        """Keep one value."""
        self.values.setdefault(name, {})[key] = value.detach()

    def note_all(self, name: str, place: tuple[int, int], values: Mapping[str, Tensor]) -> None:
        """Keep one value a word."""
        for word, value in values.items():
            self.note(name, (*place, word), value)

    def dataset(self, units: Mapping[str, str], attributes: Mapping[str, Any]) -> xr.Dataset:
        """All of it; words that one of several prompts lacks are NaN there."""
        keys = list(dict.fromkeys(key for held in self.values.values() for key in held))
        steps, images = sorted({key[0] for key in keys}), sorted({key[1] for key in keys})
        words = list(dict.fromkeys(key[2] for key in keys if key[2]))
        axes: dict[str, list[Any]] = {STEP: steps, IMAGE: images, WORD: words}
        variables = {name: self._variable(held, axes, units.get(name, "")) for name, held in self.values.items()}
        coords = {STEP: np.array(steps), IMAGE: np.array(images)} | ({WORD: words} if words else {})
        return xr.Dataset(variables, coords=coords, attrs=dict(attributes))

    def _variable(self, held: Mapping[Key, Tensor], axes: Mapping[str, list[Any]], units: str) -> Any:
        own = [STEP, IMAGE, *([WORD] if any(word for _, _, word in held) else [])]
        shape = tuple(next(iter(held.values())).shape)
        values = np.full((*(len(axes[axis]) for axis in own), *shape), np.nan, np.float32)
        for key, value in held.items():
            place = tuple(axes[axis].index(entry) for axis, entry in zip(own, key, strict=False))
            values[place] = value.float().cpu().numpy()
        return ((*own, *(FRAME, Y, X)[3 - len(shape) :]), values, {"units": units})
