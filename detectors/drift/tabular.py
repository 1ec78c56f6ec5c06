"""Drift of mixed tables: Kolmogorov-Smirnov on numeric columns, chi-squared on categorical ones."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.drift.chisquare import ChiSquareOnCells
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import ColumnwiseDrift
from detectors.drift.grid import KSOnGrid
from detectors.drift.grouped import CellTest, ColumnTest
from detectors.drift.ks import KSOnCells


class TabularDrift(ColumnwiseDrift):
    """:class:`~detectors.drift.ks.KSDrift` on the numeric and :class:`~detectors.drift.chisquare.ChiSquareDrift` on
    the categorical columns that ``features`` describe, with one correction over all.

    See :class:`~detectors.drift.columnwise.ColumnwiseDrift` for parameters, missing values, and the verdict. Effect
    sizes of both kinds lie between 0 (none) and 1 (disjoint).

    >>> import numpy as np
    >>> from detectors.base import Feature
    >>> rng = np.random.default_rng(0)
    >>> def rows(n, men, age):
    ...     return np.stack([rng.normal(age, 10, size=n).round(), rng.random(n) < men], axis=1)
    >>> features = [Feature("Age"), Feature("Sex", "categorical", ("Female", "Male"))]
    >>> detector = TabularDrift().fit(rows(5000, 0.5, 40), features)
    >>> for reason in detector.predict(rows(1000, 0.8, 30)).reasons:
    ...     print(reason.text)
    Age: mean 40.0 -> 29.7
    Sex: share of Female 50 % -> 22 %
    """

    detector_type = "TabularDrift"
    takes = "both"

    def _tests(self, columns: Sequence[ColumnReference]) -> list[ColumnTest]:
        return [CellTest(columns, KSOnCells, ChiSquareOnCells), KSOnGrid(columns)]

    def _counted(self, columns: Sequence[ColumnReference]) -> CellTest:
        return CellTest(columns, KSOnCells, ChiSquareOnCells, every=True)
