"""Parts of a window as counts, which add up to those of the whole: how several workers judge one window.

Categorical columns, and numeric ones of few distinct values, are counted in the cells of :mod:`detectors.drift.cells`:
nothing that their tests need is lost. Of other numeric columns only some reference values keep a cell of their own,
chosen by rank so that less than 1/512 of the reference lies between two of them. Between two chosen values ``a < b``
both cumulative shares are monotone, so their distance exceeds that at ``a`` or ``b`` by no more than the reference has
in between: the distance from counts is at most that of all rows, and falls short of it by less than 1/512.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Verdict, as_rows
from detectors.drift.cells import fits_cells
from detectors.drift.columns import ColumnReference
from detectors.drift.grouped import CellTest
from detectors.drift.judging import Fitted, Rule, judge_counts

POINTS = 512
RESOLUTION = 1.0 / POINTS
"""A Kolmogorov-Smirnov distance from counts is at most so much below that of all rows."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CoarseReference(ColumnReference):
    """A numeric column of which only some values have cells of their own; ``whole`` is the full reference."""

    whole: ColumnReference = None  # type: ignore[assignment]  # given always; fields before it have defaults

    @cached_property
    def n(self) -> int:
        return self.whole.n

    @cached_property
    def reached(self) -> Array:
        at = np.searchsorted(self.whole.values, self.values)
        shares = np.stack([self.whole.cumulative[at], self.whole.cumulative[at + 1]], axis=1).ravel()
        return np.append(shares, [1.0, 1.0])

    @cached_property
    def cuts(self) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.values, self.whole.values[self.whole.cuts])

    @cached_property
    def edges(self) -> tuple[float, ...]:
        return self.whole.edges

    @cached_property
    def bin_shares(self) -> tuple[float, ...]:
        return self.whole.bin_shares


def coarse(column: ColumnReference) -> ColumnReference:
    """The column with few enough cells; as it is, if it has few.

    >>> from detectors.base import Feature
    >>> fine = ColumnReference(Feature("x"), np.arange(5000) / 7, np.ones(5000, dtype=np.int64), 0)
    >>> len(coarse(fine).values) < 540, float(np.diff(coarse(fine).reached[:-1], prepend=0.0)[::2].max()) < RESOLUTION
    (True, True)
    """
    if column.feature.kind == "categorical" or fits_cells(column):
        return column
    ranks = np.searchsorted(column.cumulative[1:], np.arange(1, POINTS) / POINTS)
    places = np.unique(np.concatenate([[0], ranks, column.cuts]))
    return CoarseReference(column.feature, column.values[places], column.counts[places], column.missing, whole=column)


class Counting:
    """Counts parts of a window, and judges what they add up to. See the module.

    Parameters
    ----------
    fitted, rule : of the detector.
    test : of all its columns, by counts.
    """

    def __init__(self, fitted: Fitted, rule: Rule, test: CellTest) -> None:
        self._test, self._rule = test, rule
        least = rule.min_rows
        self._fitted = Fitted(fitted.columns, fitted.features, fitted.n_ref, [test], least)
        self.cells = test.layout.total

    @cached_property
    def mark(self) -> str:
        """Changes with the cells: only counts of equal marks may be added."""
        digest = hashlib.sha256()
        for column in self._test.layout.columns:
            digest.update(f"{column.feature.kind} {len(column.values)}\0".encode() + column.values.tobytes())
        return digest.hexdigest()[:16]

    def count(self, x: npt.ArrayLike) -> Counts:
        """``(cells,)`` counts of the rows ``x`` of shape ``(n, d)``; those of parts add up to those of the whole."""
        rows = as_rows(x, len(self._fitted.columns))
        finite = np.isfinite(rows)
        return self._test.count(rows, None if finite.all() else ~finite).astype(np.int64)

    def judge(self, counts: Counts, n: int, sample: Array) -> Verdict:
        """The verdict on ``n`` rows from their counts; ``sample`` ``(m, d)`` holds some of them, for the words."""
        return judge_counts(self._fitted, self._rule, counts.astype(np.float64), n, sample)
