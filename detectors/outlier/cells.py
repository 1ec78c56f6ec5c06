"""Columns as cells: numbers in steps of their coordinate, categories as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import Array, DetectorError, Feature
from detectors.outlier.coordinates import Coordinates, Reading

MOST_CATEGORIES = 1000

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """``counts`` ``(d,)`` cells a column; ``low`` and ``step`` ``(d,)`` of a numeric column's coordinate; ``usual``
    ``(d,)`` is the cell in which a value stands that was never seen."""

    counts: Index
    low: Array
    step: Array
    usual: Index
    levelled: npt.NDArray[np.bool_]

    @classmethod
    def learn(cls, coordinates: Coordinates, features: tuple[Feature, ...], rows: Array, bins: int) -> Self:
        """From reference ``rows`` ``(n_ref, d)``; a numeric column has so many ``bins``, a constant one has one cell.

        Raises
        ------
        DetectorError : a column has more than :data:`MOST_CATEGORIES` categories.
        """
        reading = coordinates.read(rows)
        numeric = ~coordinates.levelled & coordinates.used
        low, high = reading.inside.min(axis=0), reading.inside.max(axis=0)
        counts, usual = np.where(numeric, bins, 1), np.zeros(len(features), dtype=np.intp)
        for j, feature in enumerate(features):
            if feature.kind == "categorical" and coordinates.used[j]:
                counts[j] = int(coordinates.high[j])  # codes 0 to high - 1; high itself stands for all above
                usual[j] = max(int(coordinates.fill[j]), 0)
                if counts[j] > MOST_CATEGORIES:
                    raise DetectorError(
                        f"column {feature.name!r} has {counts[j]} categories, at most {MOST_CATEGORIES} can be told "
                        "apart: leave it out"
                    )
        counts = np.maximum(counts, 1)
        step = np.where(numeric, np.maximum(high - low, 1e-12) / bins, 1.0)
        categorical = np.array([feature.kind == "categorical" for feature in features]) & coordinates.used
        return cls(counts.astype(np.intp), np.where(numeric, low, 0.0), step, usual, categorical)

    def read(self, reading: Reading) -> Index:
        """``(n, d)`` cells of rows: the outermost beyond the reference, the usual one for what was never seen."""
        place = np.where(self.levelled, np.rint(reading.values), np.floor((reading.inside - self.low) / self.step))
        known = np.where(place >= 0.0, place, self.usual)
        if reading.unseen is not None:
            known = np.where(reading.unseen, self.usual, known)
        return np.asarray(np.minimum(known, self.counts - 1), dtype=np.intp)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {f"cells.{name}": getattr(self, name) for name in _SAVED}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(**{name: arrays[f"cells.{name}"] for name in _SAVED})


_SAVED = ("counts", "low", "step", "usual", "levelled")
