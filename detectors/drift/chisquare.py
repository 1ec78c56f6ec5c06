"""Chi-squared drift: did the shares of a column's categories change?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc

from detectors.base import Array
from detectors.drift.cells import Layout
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import ColumnwiseDrift
from detectors.drift.grouped import CellTest, ColumnTest, Measured


class ChiSquareDrift(ColumnwiseDrift):
    """Chi-squared test of homogeneity on every column, corrected for their number.

    All columns are tested as categorical. Categories are those of the feature, else the distinct values of the
    reference (at most 1000). A value that is none of them counts as one category more. The statistic is Pearson's,
    without continuity correction, as ``scipy.stats.chi2_contingency(correction=False)`` computes it over the
    categories that occur at all. The effect size is Cramer's V of two samples of equal size,
    ``sqrt(sum((f - g)^2 / (f + g)) / 2)`` for shares ``f`` and ``g``: 0 the same, 1 disjoint, whatever the sizes.

    See :class:`~detectors.drift.columnwise.ColumnwiseDrift` for parameters, missing values, and the verdict.

    References
    ----------
    Pearson K. (1900). On the criterion that a given system of deviations ... Phil. Mag. 50(302).
    Cramer H. (1946). Mathematical Methods of Statistics. Princeton, 282.

    >>> rng = np.random.default_rng(0)
    >>> detector = ChiSquareDrift().fit(rng.integers(0, 4, size=(2000, 2)))
    >>> detector.predict(rng.integers(0, 4, size=(500, 2))).state
    'ok'
    """

    detector_type = "ChiSquareDrift"
    takes = "categorical"

    def _tests(self, columns: Sequence[ColumnReference]) -> list[ColumnTest]:
        return [CellTest(columns, on_categorical=ChiSquareOnCells)]


class ChiSquareOnCells:
    """The statistic from counts of cells."""

    def __init__(self, cells: Layout) -> None:
        self._bounds, self._widths = cells.bounds, cells.widths
        self._reference = np.concatenate([[*column.counts, column.unseen, 0.0] for column in cells.columns])
        self._n_ref = np.array([column.n for column in cells.columns], dtype=np.float64)
        self._share = self._reference / np.repeat(np.maximum(self._n_ref, 1.0), cells.widths)

    def __call__(self, counts: Array) -> Measured:
        """``counts`` of the cells of categorical columns: categories, unseen, missing."""
        n = np.add.reduceat(counts, self._bounds)[::2]
        share = counts * np.repeat(1.0 / np.maximum(n, 1.0), self._widths)
        gap = np.square(share - self._share)
        pooled = counts + self._reference
        terms = np.empty((3, counts.size))
        np.divide(gap, np.maximum(pooled, 1.0), out=terms[0])
        np.divide(gap, np.maximum(share + self._share, 1e-300), out=terms[1])
        np.greater(pooled, 0.0, out=terms[2])
        sums = np.add.reduceat(terms, self._bounds, axis=1)[:, ::2]
        statistic = sums[0] * n * self._n_ref
        p = chdtrc(np.maximum(sums[2] - 1.0, 1.0), statistic)
        return Measured(statistic, p, np.sqrt(0.5 * sums[1]), n)
