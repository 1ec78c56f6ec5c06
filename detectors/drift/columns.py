"""What is kept of each column of the reference: its distinct values and how often each occurred.

Nothing else of the reference is kept, so that rows cannot be put together again, and everything a test needs (sorted
values, cumulative shares, means, histogram bins) follows from it, at fit and after loading alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import UNSEEN, Array, DetectorError, Feature, FeatureKind, Histogram

MAX_CATEGORIES = 1000
_BINS = 20
_UNSEEN_LABEL = "not in the reference"


@dataclass(frozen=True, eq=False)
class ColumnReference:
    """One column of the reference.

    ``feature.kind`` is how the column is tested. Numeric: ``values`` are the distinct values, ascending. Categorical:
    ``values[i]`` is the value of ``feature.categories[i]``, also where its count is 0, and ``unseen`` counts what is
    none of them. NaN and infinities are ``missing``.
    """

    feature: Feature
    values: Array
    counts: npt.NDArray[np.int64]
    missing: int
    unseen: int = 0

    @cached_property
    def n(self) -> int:
        """Present values."""
        return int(self.counts.sum()) + self.unseen

    @cached_property
    def cumulative(self) -> Array:
        """``(m + 1,)``: share of values below ``values[i]``; the last is 1."""
        return np.concatenate([[0.0], np.cumsum(self.counts)]) / max(self.n, 1)

    @cached_property
    def reached(self) -> Array:
        """Numeric: share of values up to the end of each of the column's cells, the missing one's included.

        See :mod:`detectors.drift.cells`: as every value has a cell of its own, nothing lies inside the others.
        """
        return np.append(np.repeat(self.cumulative, 2)[1:], 1.0)

    @cached_property
    def is_constant(self) -> bool:
        return int(np.count_nonzero(self.counts)) + (self.unseen > 0) == 1

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        return moments(self.values, self.counts)

    @cached_property
    def cuts(self) -> npt.NDArray[np.intp]:
        """Numeric: which values begin a bin, but the first. Bins are left-closed and begin at values that occur."""
        if len(self.values) <= _BINS:
            return np.arange(1, len(self.values))
        low, high = np.searchsorted(self.cumulative[1:], [0.005, 0.995])
        inner = np.linspace(self.values[low], self.values[high], _BINS + 1)[1:-1]
        found = np.unique(np.searchsorted(self.values, inner))
        return found[(found > 0) & (found < len(self.values))]

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """Numeric: bin edges; what lies outside the first and last is counted in the first and last bin."""
        if not len(self.values):
            return ()
        last = self.values[-1] if len(self.cuts) == 0 or self.cuts[-1] < len(self.values) - 1 else _above(self.values)
        last = _above(self.values) if last == self.values[0] else last
        return (float(self.values[0]), *self.values[self.cuts].tolist(), float(last))

    @cached_property
    def category_shares(self) -> tuple[float, ...]:
        """Categorical: share of the reference in each category."""
        return _shares(self.counts)

    @cached_property
    def bin_shares(self) -> tuple[float, ...]:
        """Numeric: share of the reference in each bin."""
        return tuple(np.diff(self.cumulative[[0, *self.cuts.tolist(), -1]]).tolist())


def moments(values: Array, counts: npt.NDArray[np.int64] | None = None) -> tuple[float, float]:
    """Mean and standard deviation of finite ``values``, each counted so often; 0 and 0 if there are none.

    >>> moments(np.array([1e308, -1e308]))  # without overflow
    (0.0, 1e+308)
    """
    if not len(values):
        return 0.0, 0.0
    scale = float(np.abs(values).max()) or 1.0
    scaled = values / scale
    mean = float(np.average(scaled, weights=counts))
    return scale * mean, scale * float(np.sqrt(np.average(np.square(scaled - mean), weights=counts)))


def _above(values: Array) -> float:
    """An edge that closes the bin of the last value alone: as wide as the step before it."""
    return float(values[-1] + (values[-1] - values[-2] if len(values) > 1 else 1.0))


def numeric_histogram(column: ColumnReference, bin_counts: Array) -> Histogram:
    """``bin_counts`` of the window, one per bin, beside the reference's."""
    return Histogram(column.bin_shares, _shares(bin_counts), edges=column.edges)


def sorted_histogram(column: ColumnReference, x: Array) -> Histogram | None:
    """Of ascending present values ``x`` of shape ``(n,)``; ``None`` if the reference has none."""
    if not column.n:
        return None
    places = x.searchsorted(column.values[column.cuts])
    return numeric_histogram(column, np.diff(places, prepend=0, append=len(x)).astype(np.float64))


def categorical_histogram(column: ColumnReference, counts: Array) -> Histogram:
    """``counts`` of the window by category, the last one being unseen values."""
    known, unseen = counts[:-1], counts[-1]
    labels = column.feature.categories
    if not (unseen or column.unseen):
        return Histogram(column.category_shares, _shares(known), labels=labels)
    before = np.append(column.counts, column.unseen)
    return Histogram(_shares(before), _shares(counts), labels=(*labels, _UNSEEN_LABEL))


def _shares(counts: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple((counts / max(counts.sum(), 1)).tolist())


def summarise(column: Array, feature: Feature, kind: FeatureKind) -> ColumnReference:
    """The reference of one column, to be tested as ``kind``.

    Raises
    ------
    DetectorError : the column is to be categorical but has more than 1000 distinct values.
    """
    present = column[np.isfinite(column)]
    missing = len(column) - len(present)
    if kind == "categorical" and feature.categories:
        return _coded(present, replace(feature, kind=kind), missing)
    declared = feature.kind == "categorical"
    known = present[present != UNSEEN] if declared else present
    values, counts = np.unique(known, return_counts=True)
    if kind == "numeric":
        return ColumnReference(Feature(feature.name), values, counts.astype(np.int64), missing)
    if len(values) > MAX_CATEGORIES:
        raise DetectorError(
            f"column {feature.name!r} has {len(values)} distinct values; a categorical test takes at most "
            f"{MAX_CATEGORIES}: use KSDrift, or TabularDrift with the column declared numeric"
        )
    labels = tuple(f"{value:g}" for value in values)
    feature = Feature(feature.name, "categorical", labels)
    return ColumnReference(feature, values, counts.astype(np.int64), missing, len(present) - len(known))


def _coded(present: Array, feature: Feature, missing: int) -> ColumnReference:
    values = np.arange(len(feature.categories), dtype=np.float64)
    at = np.searchsorted(values, present)
    known = np.append(values, np.nan)[at] == present
    counts = np.bincount(at[known], minlength=len(values)).astype(np.int64)
    return ColumnReference(feature, values, counts, missing, int(len(present) - known.sum()))


def to_arrays(columns: Sequence[ColumnReference]) -> dict[str, npt.NDArray[Any]]:
    """The columns as few flat arrays, for an artefact."""
    return {
        "values": np.concatenate([column.values for column in columns]),
        "counts": np.concatenate([column.counts for column in columns]),
        "sizes": np.array([len(column.values) for column in columns], dtype=np.int64),
        "missing": np.array([column.missing for column in columns], dtype=np.int64),
        "unseen": np.array([column.unseen for column in columns], dtype=np.int64),
    }


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]], features: Sequence[Feature]) -> tuple[ColumnReference, ...]:
    """What :func:`to_arrays` made; ``features`` are those of the columns as tested."""
    try:
        sizes, missing, unseen = (arrays[name].tolist() for name in ("sizes", "missing", "unseen"))
        values, counts = arrays["values"].astype(np.float64), arrays["counts"].astype(np.int64)
    except KeyError as error:
        raise DetectorError(f"the artefact lacks the array {error}: fit the detector again") from None
    ends = np.cumsum(sizes)
    if not len(features) == len(sizes) == len(missing) == len(unseen) or not len(values) == len(counts) == sum(sizes):
        raise DetectorError("the artefact's arrays do not fit together: fit the detector again")
    slices = [slice(end - size, end) for end, size in zip(ends.tolist(), sizes, strict=True)]
    return tuple(
        ColumnReference(feature, values[at], counts[at], gone, other)
        for feature, at, gone, other in zip(features, slices, missing, unseen, strict=True)
    )
