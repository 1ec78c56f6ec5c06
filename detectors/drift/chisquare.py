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
from detectors.drift.sparse import moments, tail, terms


class ChiSquareDrift(ColumnwiseDrift):
    """Chi-squared test of homogeneity on every column, corrected for their number.

    All columns are tested as categorical. Categories are those of the feature, else the distinct values of the
    reference (at most 1000). A value that is none of them counts as one category more. The statistic is Pearson's,
    without continuity correction, as ``scipy.stats.chi2_contingency(correction=False)`` computes it over the
    categories that occur at all. So is the p-value where at least 50 values of every such category are expected in the
    window; with rarer ones Pearson's tail is far too heavy (a thousand times too many alarms with some hundred labels),
    and the p-value is that of the likelihood ratio with the moments that it really has: see
    :mod:`detectors.drift.sparse`. The effect size is Cramer's V of two samples of equal size,
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
        return [self._counted(columns)]

    def _counted(self, columns: Sequence[ColumnReference]) -> CellTest:
        return CellTest(columns, on_categorical=ChiSquareOnCells)


MANY = 50.0
"""Values expected of every category, from which Pearson's statistic is trusted."""

_NONE = 1e300
"""More values than there are, where there is no category."""


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
        per_cell = np.empty((3, counts.size))
        np.divide(gap, np.maximum(pooled, 1.0), out=per_cell[0])
        np.divide(gap, np.maximum(share + self._share, 1e-300), out=per_cell[1])
        np.greater(pooled, 0.0, out=per_cell[2])
        sums = np.add.reduceat(per_cell, self._bounds, axis=1)[:, ::2]
        statistic = sums[0] * n * self._n_ref
        p = chdtrc(np.maximum(sums[2] - 1.0, 1.0), statistic)
        part = n / np.maximum(n + self._n_ref, 1.0)
        fewest = np.minimum.reduceat(np.where(per_cell[2], pooled, _NONE), self._bounds)[::2]
        rarest = fewest * np.minimum(part, 1.0 - part)
        for j in np.flatnonzero((rarest < MANY) & (n > 0.0) & (self._n_ref > 0.0)).tolist():
            at = slice(self._bounds[2 * j], self._bounds[2 * j + 1])
            p[j] = _likelihood_p(counts[at], pooled[at], float(part[j]))
        return Measured(statistic, p, np.sqrt(0.5 * sums[1]), n)


def _likelihood_p(counts: Array, pooled: Array, part: float) -> float:
    """The p-value of one column by the likelihood ratio; ``part`` of all its values are the window's."""
    g = terms(counts, pooled, part)
    mean, variance = moments(pooled, part)
    rare = np.count_nonzero((pooled > 0.0) & (pooled * part < 5.0))
    return tail(float(g.sum()), float(mean.sum()), float(variance.sum()), int(rare))
