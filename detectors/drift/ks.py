"""Kolmogorov-Smirnov drift: does a numeric column still come from the reference's distribution?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.base import Array
from detectors.drift.cells import Layout
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import ColumnwiseDrift
from detectors.drift.grid import KSOnGrid
from detectors.drift.grouped import CellTest, ColumnTest, Measured
from detectors.drift.kolmogorov import ks_p


class KSDrift(ColumnwiseDrift):
    """Two-sample Kolmogorov-Smirnov test on every column, corrected for their number.

    The statistic of a column is the largest distance between the two cumulative shares, which is its effect size, too
    (0 none, 1 disjoint). Its p-value is that of ``scipy.stats.ks_2samp(method="asymp")``: the one-sample distribution
    at ``n n_ref / (n + n_ref)`` values. On columns with ties it is conservative.

    See :class:`~detectors.drift.columnwise.ColumnwiseDrift` for parameters, missing values, and the verdict.

    References
    ----------
    Smirnov N. (1939). On the estimation of the discrepancy between empirical curves of distribution for two
    independent samples. Bull. Math. Univ. Moscou 2(2).

    >>> rng = np.random.default_rng(0)
    >>> detector = KSDrift(ert=400).fit(rng.normal(size=(2000, 3)))
    >>> detector.predict(rng.normal(size=(500, 3))).state
    'ok'
    >>> detector.predict(rng.normal(size=(500, 3)) + [0, 0.5, 0]).reasons[0].feature
    'x1'
    """

    detector_type = "KSDrift"
    takes = "numeric"

    def _tests(self, columns: Sequence[ColumnReference]) -> list[ColumnTest]:
        return [CellTest(columns, on_numeric=KSOnCells), KSOnGrid(columns)]

    def _counted(self, columns: Sequence[ColumnReference]) -> CellTest:
        return CellTest(columns, on_numeric=KSOnCells, every=True)


class KSOnCells:
    """The statistic from counts of cells: exact, as every reference value and gap is a cell."""

    def __init__(self, cells: Layout) -> None:
        self._starts, self._ends, self._widths, self._bounds = cells.starts, cells.ends, cells.widths, cells.bounds
        self._n_ref = np.array([column.n for column in cells.columns], dtype=np.float64)
        below = [column.reached for column in cells.columns]
        self._reference = np.concatenate(below) if below else np.empty(0)
        self._before = np.repeat(np.arange(len(below), dtype=np.float64), cells.widths)

    def __call__(self, counts: Array) -> Measured:
        """``counts`` of the cells of numeric columns, each column's missing cell last."""
        running = np.cumsum(counts)
        if counts[self._ends].any():
            before = running[self._starts] - counts[self._starts]
            n = running[self._ends - 1] - before
            scale = 1.0 / np.maximum(n, 1.0)
            gap = (running - np.repeat(before, self._widths)) * np.repeat(scale, self._widths)
        else:  # as a rule nothing is missing: every column has as many values
            rows = float(running[-1]) / len(self._n_ref)
            n = np.full(len(self._n_ref), rows)
            gap = self._before * rows
            np.subtract(running, gap, out=gap)
            gap *= 1.0 / max(rows, 1.0)
        gap -= self._reference
        np.abs(gap, out=gap)
        distance = np.maximum.reduceat(gap, self._bounds)[::2]
        return Measured(distance, ks_p(distance, n, self._n_ref), distance, n)
