"""Fisher's exact test for drift of yes/no columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.base import Array, DetectorError
from detectors.drift.cells import Layout
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import ColumnwiseDrift
from detectors.drift.grouped import CellTest, ColumnTest, Measured
from detectors.drift.proportions import fisher_p


class FETDrift(ColumnwiseDrift):
    """Fisher's exact test, two-sided, on every column of two values, corrected for their number.

    The two values are the feature's categories, else those of the reference (most often 0 and 1). Statistic and effect
    size are the absolute change of the second value's share. The p-value is that of ``scipy.stats.fisher_exact``.
    Where a third value occurs in the reference or in the window, its share is a second test, and the p-value is
    twice the smaller, at most 1.

    See :class:`~detectors.drift.columnwise.ColumnwiseDrift` for parameters, missing values, and the verdict.

    References
    ----------
    Fisher R. A. (1922). On the interpretation of chi-squared from contingency tables. J. R. Stat. Soc. 85(1).

    >>> rng = np.random.default_rng(0)
    >>> detector = FETDrift().fit(rng.random((1000, 1)) < 0.1)
    >>> detector.predict(rng.random((100, 1)) < 0.1).state
    'ok'
    >>> detector.predict(rng.random((100, 1)) < 0.5).reasons[0].text
    'x0: share of 1 9 % -> 47 %'
    """

    detector_type = "FETDrift"
    takes = "categorical"

    def _tests(self, columns: Sequence[ColumnReference]) -> list[ColumnTest]:
        for column in columns:
            if len(column.values) > 2:
                raise DetectorError(
                    f"FETDrift tests columns of two values, and {column.feature.name!r} has {len(column.values)}: "
                    "use ChiSquareDrift"
                )
        return [self._counted(columns)]

    def _counted(self, columns: Sequence[ColumnReference]) -> CellTest:
        return CellTest(columns, on_categorical=FisherOnCells)


class FisherOnCells:
    """The test from counts of cells: one or two values, unseen, missing."""

    def __init__(self, cells: Layout) -> None:
        self._columns = cells.columns
        self._starts = cells.starts.tolist()

    def __call__(self, counts: Array) -> Measured:
        found = [
            self._one(column, counts[start : start + len(column.values) + 1].astype(np.int64).tolist())
            for column, start in zip(self._columns, self._starts, strict=True)
        ]
        gap, p, n = np.array(found).T
        return Measured(gap, p, gap, n)

    def _one(self, column: ColumnReference, window: list[int]) -> tuple[float, float, int]:
        *known, unseen = window
        known_ref: list[int] = column.counts.tolist()
        total, total_ref, n = sum(known), sum(known_ref), sum(window)
        if not (n and column.n):
            return 0.0, 1.0, n
        gap, p = 0.0, 1.0
        if total and total_ref:
            gap = abs(known[-1] / total - known_ref[-1] / total_ref)
            p = fisher_p(known_ref[-1], total_ref, known[-1], total)
        if unseen or column.unseen:
            gap = max(gap, abs(unseen / n - column.unseen / column.n))
            p = min(1.0, 2.0 * min(p, fisher_p(column.unseen, column.n, unseen, n)))
        return gap, p, n
