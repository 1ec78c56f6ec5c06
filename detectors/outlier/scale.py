"""Numeric columns in standard deviations from the reference's median."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import Array
from detectors.outlier.coordinates import SMALLEST, Coordinates, Reading
from detectors.outlier.judging import OutlierDetector


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What numbers are measured with; all ``(d,)``. ``scale`` is one over the standard deviation.

    >>> rows = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 1.0]] * 5)
    >>> from detectors.base import Feature
    >>> ages = Coordinates.learn(rows, (Feature("age"), Feature("sex", "categorical", ("F", "M"))))
    >>> Scale.learn(ages, rows).points(ages.read(np.array([[3.0, 0], [9.0, 1]]))).round(3).tolist()
    [[0.0, 0.0], [1.225, 1.177]]
    """

    scale: Array
    centre: Array
    low: Array
    high: Array
    levelled: npt.NDArray[np.bool_]

    @classmethod
    def learn(cls, coordinates: Coordinates, rows: Array) -> Self:
        """From reference ``rows`` ``(n_ref, d)``; what lies outside the coordinates' range is left out."""
        spread = np.ones(rows.shape[1])
        for j in np.flatnonzero(~coordinates.levelled & coordinates.used):
            column = rows[:, j]
            spread[j] = column[(column >= coordinates.low[j]) & (column <= coordinates.high[j])].std()
        # In a column of which nothing is known, nothing is strange.
        scale = np.where(coordinates.used, 1.0 / np.maximum(spread, SMALLEST), 0.0)
        return cls(scale, coordinates.fill, coordinates.low, coordinates.high, coordinates.levelled)

    def points(self, reading: Reading) -> Array:
        """``(n, d)``: standard deviations of numbers, moved into the reference's range; coordinates of the others."""
        inside = np.minimum(np.maximum(reading.values, self.low), self.high)
        points = np.where(self.levelled, reading.inside, (inside - self.centre) * self.scale)
        return np.ascontiguousarray(points)  # products round alike, however the rows lay in memory

    def measured(self, values: Array, tail: float) -> Array:
        """``(n, d)`` standard deviations; inside the range, from ``tail`` of them on, they grow by the logarithm."""
        inside = np.minimum(np.maximum(values, self.low), self.high)
        deviation = (inside - self.centre) * self.scale
        excess = np.abs(deviation) - tail
        if (excess > 0.0).any():
            shortened = np.copysign(tail + np.log1p(np.maximum(excess, 0.0)), deviation)
            deviation = np.where(excess > 0.0, shortened, deviation)
        return np.asarray(deviation + (values - inside) * self.scale)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self, name) for name in _SAVED}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(**{name: arrays[name] for name in _SAVED})


class ScaledDetector(OutlierDetector):
    """An outlier detector that learns such a scale first."""

    _scale: Scale | None = None

    def _scaled(self) -> Scale:
        assert self._scale is not None
        return self._scale


_SAVED = ("scale", "centre", "low", "high", "levelled")
