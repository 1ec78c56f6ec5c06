"""Cramer-von Mises drift, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detectors.base import Array
from detectors.drift.channels import Additive, Channel, Codes
from detectors.drift.columns import ColumnReference
from detectors.drift.online import OnlineDrift

POINTS = 20
"""Quantiles of the reference at which distributions are compared, where it has more different values."""


class CVMDriftOnline(OnlineDrift):
    """Cramer-von Mises test of the last rows of every numeric column against the reference, at every row.

    The statistic of a window of ``w`` values is ``w`` times the integral of ``(F - G)^2`` over the reference, ``F`` and
    ``G`` being the distribution functions of window and reference: taken at its distinct values, or at 20 of its
    quantiles if it has more. The effect size is the root of three times the integral: 0 the same, 1 disjoint.

    See :class:`~detectors.drift.online.OnlineDrift` for parameters, missing values, and the verdict.

    References
    ----------
    Cramer H. (1928). On the composition of elementary errors. Scand. Actuar. J. 1928(1).
    Cobb O., Van Looveren A., Klaise J. (2022). Sequential multivariate change detection with calibrated and memoryless
    false detection rates. AISTATS.

    >>> rng = np.random.default_rng(0)
    >>> detector = CVMDriftOnline(ert=1000, n_bootstraps=50).fit(rng.normal(size=(1000, 2)))
    >>> verdict = detector.predict(rng.normal((0.0, 1.5), 1.0, size=(500, 2)))
    >>> verdict.state, verdict.n < 100, [f.name for f in verdict.features if f.state == "alert"]
    ('alert', True, ['x1'])
    """

    detector_type = "CVMDriftOnline"
    takes = "numeric"

    def __init__(
        self, ert: float = 1000.0, window_sizes: Sequence[int] = (20, 80), n_bootstraps: int = 200, seed: int = 0
    ) -> None:
        super().__init__(ert, window_sizes, n_bootstraps, seed)

    def _channels(self, columns: Sequence[ColumnReference], rows: Array) -> list[Channel]:  # noqa: ARG002 - MMD needs them
        return [Distribution(j, column) for j, column in enumerate(columns) if column.n]


class Distribution(Additive):
    """The Cramer-von Mises statistic of a column, whose distribution function is compared at a few points."""

    def __init__(self, j: int, column: ColumnReference) -> None:
        self.columns = (j,)
        m = len(column.values)
        reached = column.cumulative[1:]
        at = np.arange(m) if m <= POINTS else np.unique(np.searchsorted(reached, (np.arange(POINTS) + 0.5) / POINTS))
        self._points, self._reference = column.values[at], reached[at]
        self._weights = np.diff(self._reference, prepend=0.0)

    def encode(self, x: Array) -> Codes:
        values = x[:, self.columns[0]]
        present = np.isfinite(values)
        codes = np.empty((len(x), len(self._points) + 1), dtype=np.int32)
        codes[:, 1:] = values[:, None] <= self._points
        codes[~present, 1:] = 0
        codes[:, 0] = present
        return codes

    def of_sums(self, sums: Array, w: int) -> Array:
        n = sums[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            gaps = sums[:, 1:] / n[:, None] - self._reference
        found: Array = np.where(2.0 * n >= w, n * (np.square(gaps) * self._weights).sum(axis=1), np.nan)
        return found

    def effect_size(self, codes: Codes) -> float:
        n = max(int(codes[:, 0].sum()), 1)
        gaps = codes[:, 1:].sum(axis=0) / n - self._reference
        return math.sqrt(min(3.0 * float((np.square(gaps) * self._weights).sum()), 1.0))
