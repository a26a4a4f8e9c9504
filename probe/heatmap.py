"""A heatmap: a scalar field over the picture plane, for one subject by one method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from probe.errors import BadInput


@dataclass(frozen=True, eq=False)
class Heatmap:
    """values: DataArray with dims (y, x). `units` says what a value means; `provenance` how it was made."""

    values: xr.DataArray
    subject: str
    method: str
    units: str
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.values.dims != ("y", "x"):
            raise BadInput(f"a heatmap has dims ('y', 'x'), got {self.values.dims}: reduce the others first")

    def resize(self, height: int, width: int) -> "Heatmap":
        """The same field on another grid, bilinear; values keep their units."""
        plane = Image.fromarray(np.asarray(self.values, dtype=np.float32))
        resized = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        values = xr.DataArray(resized, dims=("y", "x"), attrs=self.values.attrs)
        return Heatmap(values, self.subject, self.method, self.units, self.provenance)

    def normalised(self) -> "Heatmap":
        """Scaled to 0..1 by its own minimum and maximum; a constant field becomes zero."""
        low, high = float(self.values.min()), float(self.values.max())
        values = (self.values - low) / (high - low) if high > low else self.values * 0.0
        return Heatmap(values, self.subject, self.method, "share of the map's own range", self.provenance)

    def mask(self, threshold: float = 0.5) -> xr.DataArray:
        """[y, x] bool: where the normalised field is at least `threshold`."""
        return self.normalised().values >= threshold

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest value."""
        row, column = np.unravel_index(int(np.argmax(self.values.values)), self.values.shape)
        return int(row), int(column)

    def __repr__(self) -> str:
        h, w = self.values.shape
        low, high = float(self.values.min()), float(self.values.max())
        return f"Heatmap({self.subject!r}, {self.method}, {h} x {w}, {low:.3g} to {high:.3g} {self.units})"
